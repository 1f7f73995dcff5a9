"""Estimate of a preparation, and its job file for another machine."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from preparation.config.load import load_preparation, parse_preparation
from preparation.estimate import PreparationEstimate, estimate, format_duration
from preparation.plan import plan
from preparation.relocation import local_files, relocated
from temper.cli import main
from training.errors import JobError


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


def test_result_elsewhere_has_the_same_digest(tmp_path: Path) -> None:
    steps = [{"step": "personal_data"}, {"step": "secrets"}, {"step": "duplicates"}]
    job = load_preparation(written(tmp_path, steps=steps, split={"validation": 0.1}))
    elsewhere = tmp_path / "opt" / "source-0" / "a.jsonl"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes((tmp_path / "a.jsonl").read_bytes())
    paths = {path: str(elsewhere) for _, path in local_files(job)}
    text = relocated(job, paths, "s3://bucket/prepared")
    moved = parse_preparation(yaml.safe_load(text), "moved")
    assert moved.prepare.output == "s3://bucket/prepared"
    assert plan(moved).digest == plan(job).digest


def test_file_that_is_named_otherwise_is_refused(tmp_path: Path) -> None:
    job = load_preparation(written(tmp_path))
    paths = {path: "/there" for _, path in local_files(job)} | {tmp_path / "hub.json": "/hub"}
    with pytest.raises((JobError, KeyError)):
        relocated(job, paths, "out")
