"""The page of a run links the reports of its suites."""

from __future__ import annotations

import json
from pathlib import Path

from training.report.page import render
from training.report.run_data import read_run_data


def test_the_page_of_a_pipeline_links_the_report_in_the_folder_of_the_stage(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: two\nstages: [{name: pretrain}, {name: answer}]\n")
    evaluation = tmp_path / "stages/02-answer/evaluation"
    for name in ("product", "other"):
        (evaluation / name).mkdir(parents=True)
    (evaluation / "product/report.html").write_text("<html></html>")
    suites = [{"suite": name, "metrics": [], "failed_gates": []} for name in ("product", "other")]
    (evaluation / "summary.json").write_text(json.dumps({"passed": True, "suites": suites}))
    page = render(read_run_data(tmp_path))
    link = "stages/02-answer/evaluation/product/report.html"
    assert f'<a href="{link}">' in page and (tmp_path / link).is_file()
    assert "other/report.html" not in page
