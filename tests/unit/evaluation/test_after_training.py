"""`evaluate.suite` of a job: read before training, evaluated after it, with gates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog.exit_codes import RUN_FAILED
from containers.entrypoint.train import gate_failed, run_reports
from evaluation.__main__ import main as evaluate
from launch.job_inputs import collect_inputs
from temper.cli import main
from tests.factories import docstring_pairs, make_tiny_model, write_jsonl
from tests.run_commands import Run, changed, finish, latest, start_command
from training.config.load import parse_job
from training.errors import CrashError, JobError
from training.export.checksums import checksums_of, read_checksums, write_checksums
from training.report.page import write_report
from training.run_folder import RunFolder, differences


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return write_suite(tmp_path / "product", 0.0)


def write_suite(folder: Path, least: float) -> Path:
    folder.mkdir(exist_ok=True)
    pairs = docstring_pairs(8)
    rows = [
        {"question": row["prompt"], "choices": [row["completion"], pairs[n - 1]["completion"]]}
        for n, row in enumerate(pairs)
    ]
    write_jsonl(folder / "rows.jsonl", rows)
    document = {
        "suite": "product",
        "tasks": [
            {
                "name": "choice", "kind": "multiple_choice", "data": "rows.jsonl",
                "prompt": "{{question}}", "choices": "{{choices}}", "target": "{{0}}",
            },
            {"name": "text", "kind": "perplexity", "data": "rows.jsonl", "text": "{{question}}"},
        ],
        "gates": [
            {"metric": "choice.accuracy", "at_least": least},
            {"metric": "text.bits_per_byte", "max_drop": 50},
        ],
    }  # fmt: skip
    (folder / "suite.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def finished_run(document: dict[str, Any], suites: list[Path], path: Path) -> RunFolder:
    """Return the folder of a run whose model is another than its base, as if it was trained."""
    job = changed(document, evaluate={"suite": [str(suite) for suite in suites]})
    folder = RunFolder.create(path, parse_job(job, "test"))
    make_tiny_model(folder.model, hidden_size=48, head_dim=12)
    card = "# tiny\n\nIts limitations are those of its data; it was not evaluated otherwise.\n"
    (folder.model / "README.md").write_text(card)
    write_checksums(folder.model)
    return folder


def test_a_run_is_evaluated_in_pairs_with_the_model_that_it_started_from(
    document: dict[str, Any], suite: Path, tmp_path: Path
) -> None:
    folder = finished_run(document, [suite], tmp_path / "run")
    assert evaluate(folder.path) == 0, folder.read_failure()
    summary = json.loads((folder.path / "evaluation/summary.json").read_text())
    assert summary["passed"] and summary["suites"][0]["suite"] == "product"
    rows = {row["metric"]: row for row in summary["suites"][0]["metrics"]}
    bits = rows["text.bits_per_byte"]
    assert bits["difference"] == pytest.approx(bits["value"] - bits["against"])
    assert bits["difference"] != 0, "the base is evaluated, not the trained model twice"
    results = json.loads((folder.path / "evaluation/product/results.json").read_text())
    assert results["against"]["source"] == document["model"]["source"]
    evaluate(folder.path)
    card = (folder.model / "README.md").read_text()
    assert card.count("## Evaluation") == 1 and "not evaluated otherwise" not in card
    assert "| product | choice.accuracy |" in card and results["suite_digest"][:16] in card
    recorded = read_checksums(folder.model)
    assert recorded == checksums_of(folder.model), "the new card can be registered"
    write_report(folder.path)
    page = (folder.path / "report.html").read_text()
    assert "text.bits_per_byte" in page and "No gate of evaluate.suite is missed" in page
    assert '<a href="evaluation/product/report.html">' in page
    assert (folder.path / "evaluation/product/report.html").is_file()
    assert not gate_failed(folder.path)


def test_a_gate_that_is_not_passed_fails_the_run_and_keeps_its_model(
    document: dict[str, Any], suite: Path, tmp_path: Path
) -> None:
    strict = write_suite(tmp_path / "strict", 1.1)
    folder = finished_run(document, [strict], tmp_path / "run")
    assert evaluate(folder.path) == RUN_FAILED
    error = folder.read_failure()
    assert error is not None and error.exit_code == RUN_FAILED
    assert not isinstance(error, CrashError), "a restart would repeat it"
    assert "choice.accuracy at least 1.1: the value is" in str(error)
    assert "is not registered" in str(error)
    assert (folder.model / "model.safetensors").is_file()
    assert gate_failed(folder.path), "the entry point uploads the model and its results"
    assert run_reports(folder.path, "evaluation") == {"evaluation": folder.path / "evaluation"}
    write_report(folder.path)
    assert "Gates of evaluate.suite are not passed" in (folder.path / "report.html").read_text()


def test_suites_are_read_before_training(
    document: dict[str, Any], suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.yaml"

    def check(*suites: Path) -> tuple[int, str]:
        job = changed(document, evaluate={"suite": [str(path) for path in suites]})
        file.write_text(yaml.safe_dump(job))
        return main(["check", str(file)]), capsys.readouterr().err

    assert check(suite)[0] == 0
    (suite / "rows.jsonl").write_text('{"question": "q"}\n')
    code, said = check(suite, tmp_path / "none.yaml")
    assert code == 2
    assert "choices" in said and "none.yaml" in said, "all suites are read"


def test_a_suite_is_sent_with_its_data(
    document: dict[str, Any], suite: Path, tmp_path: Path
) -> None:
    job = parse_job(changed(document, evaluate={"suite": str(suite)}), "test")
    artifacts = {artifact.key: artifact for artifact in collect_inputs(job)}
    sent = {path.name for path in artifacts["evaluate.suite.0"].files}
    assert sent == {"suite.yaml", "rows.jsonl"}
    job = parse_job(changed(document, evaluate={"suite": str(suite / "suite.yaml")}), "test")
    with pytest.raises(JobError, match=r"Put the suite into a folder as suite\.yaml"):
        collect_inputs(job)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": {"kind": "reward"}}, "returns scores, not text"),
        ({"adapter": {"kind": "prompt_tuning"}}, "cannot be merged"),
        ({"evaluate": {"suite": ["a.yaml", "a.yaml"]}}, "in the list twice"),
    ],
)
def test_a_job_whose_model_cannot_be_evaluated_is_refused(
    document: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    job = changed(changed(document, evaluate={"suite": "a.yaml"}), **change)
    with pytest.raises(JobError, match=said):
        parse_job(job, "test")


def test_another_suite_resumes_the_same_run(document: dict[str, Any]) -> None:
    job = parse_job(document, "test")
    assert not differences(job, parse_job(changed(document, evaluate={"suite": "a"}), "test"))


@pytest.mark.slow
def test_a_run_ends_with_its_suite(document: dict[str, Any], suite: Path, tmp_path: Path) -> None:
    strict = write_suite(tmp_path / "strict", 1.1)
    job = changed(document, evaluate={"suite": str(strict)}, train={"max_steps": 3})
    ended = finish(start_command(job, tmp_path))
    assert ended.code == RUN_FAILED, ended.err + ended.out
    assert "choice.accuracy at least 1.1" in ended.err
    run = latest(job, tmp_path)
    assert run.state == "failed" and run.weights
    # Another gate resumes the same run, which is trained already, and ends it.
    shutil.copy(suite / "suite.yaml", strict / "suite.yaml")
    ended = finish(start_command(job, tmp_path))
    assert ended.code == 0, ended.err + ended.out
    again = latest(job, tmp_path)
    assert (again.path, again.state) == (run.path, "finished")
    assert len(Run(again.path).samples) == 3, "nothing is trained again"
