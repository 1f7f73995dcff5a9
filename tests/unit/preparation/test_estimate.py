"""Estimate of a preparation, and its job file for another machine."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from preparation.config.job import PreparationJob
from preparation.config.load import load_preparation, parse_preparation
from preparation.estimate import PreparationEstimate, estimate, format_duration
from preparation.plan import plan
from preparation.relocation import local_files, relocated
from temper.cli import main
from tests.factories import make_tiny_model


def written(folder: Path, rows: int = 300, **prepare: Any) -> Path:
    data = folder / "a.jsonl"
    text = "the quick brown fox jumps over the lazy dog " * 5
    data.write_text("".join(json.dumps({"text": f"{n} {text}"}) + "\n" for n in range(rows)))
    path = folder / "job.yaml"
    steps = [{"step": "normalise"}, {"step": "duplicates"}]
    document = {"sources": str(data), "steps": steps, **prepare}
    path.write_text(yaml.safe_dump({"name": "tidy", "prepare": document}))
    return path


def test_rows_are_extrapolated_from_a_sample(tmp_path: Path) -> None:
    found = estimate(plan(load_preparation(written(tmp_path))))
    assert found.rows == pytest.approx(300, rel=0.05)
    assert found.sampled_rows < 300
    assert found.core_seconds > 0
    assert 50 < found.worker_mib < 4096


def test_rows_of_packed_files_are_extrapolated(tmp_path: Path) -> None:
    job = written(tmp_path, 4000)
    rows = (tmp_path / "a.jsonl").read_bytes()
    with gzip.open(tmp_path / "b.jsonl.gz", "wb") as stream:
        stream.write(rows)
    overrides = f"prepare.sources={tmp_path / 'b.jsonl.gz'}"
    found = estimate(plan(load_preparation(job, overrides)))
    assert 1000 < found.rows < 16000  # text that repeats compresses far better in bulk


def test_duplicates_cost_time(tmp_path: Path) -> None:
    with_step = estimate(plan(load_preparation(written(tmp_path))))
    without = estimate(plan(load_preparation(written(tmp_path, steps=[]))))
    assert with_step.core_seconds > without.core_seconds


def test_cores_beyond_the_units_do_not_help() -> None:
    found = PreparationEstimate(10, 10, 4, 100.0, 200.0, 10.0, 10)
    assert found.seconds(2) == 50
    assert found.seconds(64) == found.seconds(4) == 25
    assert found.memory_gib(64) == found.memory_gib(4) == pytest.approx(810 / 1024)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (80, "80 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_plan_prints_the_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(written(tmp_path)), "--set", "prepare.workers=3"]) == 0
    out = capsys.readouterr().out
    assert "tidy: 1 units" in out
    assert "on 3 cores" in out


def test_plan_is_written_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    assert main(["plan", str(written(tmp_path)), "--out", str(file)]) == 0
    facts = json.loads(file.read_text())
    assert f"about {facts['rows']:,} rows" in capsys.readouterr().out
    assert facts["seconds"] == pytest.approx(facts["core_seconds"])  # one unit
    assert main(["plan", str(written(tmp_path)), "--out", str(tmp_path / "no" / "plan.json")]) == 2
    assert "--out: cannot be written: No such file or directory" in capsys.readouterr().err


def test_result_elsewhere_has_the_same_digest(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    steps = [{"step": "secrets"}, *with_files(tmp_path), {"step": "duplicates"}]
    job = load_preparation(written(tmp_path, steps=steps, split={"validation": 0.1}))
    names = copied(job, tmp_path / "opt")
    text = relocated(job, names, "s3://bucket/prepared")
    moved = parse_preparation(yaml.safe_load(text), "moved")
    assert moved.prepare.output == "s3://bucket/prepared"
    assert plan(moved).digest == plan(job).digest


def with_files(folder: Path) -> list[dict[str, Any]]:
    """Return steps that read files: a benchmark, and a tokenizer named by its model's folder."""
    (folder / "items.jsonl").write_text('{"text": "a question that no row of the data has"}\n')
    tokenizer = {"tokenizer": str(folder / "model")}
    return [
        {"step": "decontaminate", "against": [str(folder / "items.jsonl")]},
        {"step": "chunk", "max_tokens": 64, **tokenizer},
        {"step": "tokenizer_statistics", **tokenizer},
    ]


def copied(job: PreparationJob, folder: Path) -> dict[str, str]:
    """Copy the files of a job as a target does, and return the new path of each."""
    names = {}
    for index, (value, (_, path)) in enumerate(local_files(job).items()):
        there = folder / f"source-{index}" / path.name
        there.parent.mkdir(parents=True)
        shutil.copy(path, there)
        names[value] = str(there)
    return names


def test_a_source_named_like_a_setting_is_moved_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").mkdir()
    Path("text/a.jsonl").write_text('{"text": "a row"}\n')
    prepare = {"sources": [{"source": "text", "group_by": "text"}], "steps": []}
    job = parse_preparation({"name": "text", "prepare": prepare}, "job.yaml")
    moved = yaml.safe_load(relocated(job, {"text": "/opt/source-0"}, "out"))
    assert moved["name"] == "text"
    assert moved["prepare"]["sources"] == [{"source": "/opt/source-0", "group_by": "text"}]
