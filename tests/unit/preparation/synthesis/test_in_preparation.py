"""Synthesis in the job of a preparation: its rows pass the steps, and keep their tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from preparation.command import plan_preparation, prepare
from preparation.config.load import load_preparation
from preparation.executors.nodes import Node
from preparation.synthesis.cost import estimate
from tests.unit.preparation.synthesis.teachers import FakeTeacher
from training.errors import JobError


def job_file(folder: Path, section: Any, **prepare_keys: Any) -> Path:
    document = {
        "name": "written",
        "synthesize": section.model_dump(mode="json", exclude_none=True),
        "prepare": {"output": str(folder / "prepared"), "workers": 1, **prepare_keys},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_synthesized_rows_are_prepared(
    teacher: FakeTeacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = teacher.section(tmp_path, "from_documents", rows=6, teacher_terms="Apache-2.0")
    path = job_file(tmp_path, section, steps=[{"step": "duplicates", "action": "drop"}])
    assert prepare(path) == 0
    printed = capsys.readouterr().out
    assert "questions and answers: 2 requests" in printed and "6 rows read" in printed
    latest = tmp_path / "prepared/written/latest"
    rows = [
        row for file in latest.glob("train/*.parquet") for row in pq.read_table(file).to_pylist()
    ]
    assert rows and all(len(row["messages"]) == 2 for row in rows)
    for row in rows:
        tags = row["row_tags"] if isinstance(row["row_tags"], dict) else json.loads(row["row_tags"])
        assert tags["synthesized_by"] == "teacher-1"
        assert tags["passage_id"].startswith("guide.txt")
    report = json.loads((latest / "report.json").read_text())
    assert report["sources"][0]["license"] == "Apache-2.0"
    assert report["sources"][0]["origin"] == "written by the model teacher-1"
    calls = teacher.questions.total()
    assert prepare(path) == 0 and teacher.questions.total() == calls
    assert "prepared already" in capsys.readouterr().out


def test_the_plan_prices_the_requests_and_makes_none(
    teacher: FakeTeacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = teacher.section(tmp_path, "from_documents", rows=6)
    plan_preparation(job_file(tmp_path, section), out=tmp_path / "plan.json")
    assert "questions and answers: 2 requests" in capsys.readouterr().out
    usd = json.loads((tmp_path / "plan.json").read_text())["synthesis_usd"]
    assert usd == pytest.approx(estimate(section).usd) and usd > 0
    assert not teacher.questions.total() and not (tmp_path / "prepared").exists()


def test_problems_of_both_sections_are_named_at_once(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "evolve", prompts="none.jsonl", max_cost_usd=None)
    path = job_file(tmp_path, section, sources=["no-such-file.jsonl"])
    with pytest.raises(JobError) as caught:
        load_preparation(path)
    assert [problem.path for problem in caught.value.problems] == [
        "prepare.sources.0.source",
        "synthesize.prompts",
        "synthesize.max_cost_usd",
    ]
    path.write_text("name: empty\nprepare: {steps: []}\n")
    with pytest.raises(
        JobError, match=r"prepare.sources: there is nothing to prepare. Name a file"
    ):
        load_preparation(path)


def test_sources_are_found_next_to_the_job(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "evolve")
    section = section.model_copy(
        update={"prompts": section.prompts.model_copy(update={"source": "tasks.jsonl"})}
    )
    job = load_preparation(job_file(tmp_path, section))
    assert job.synthesize is not None
    assert job.synthesize.sources()[0][1].source == str(tmp_path / "tasks.jsonl")


def test_a_synthesis_runs_on_one_machine(
    teacher: FakeTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = job_file(tmp_path, teacher.section(tmp_path, "evolve"), output="s3://bucket/prepared")
    monkeypatch.setattr("preparation.synthesized.this_node", lambda: Node(index=1, count=3))
    with pytest.raises(JobError) as caught:
        prepare(path)
    assert [problem.path for problem in caught.value.problems] == ["prepare.output", "synthesize"]
    assert not teacher.questions
