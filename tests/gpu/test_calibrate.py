"""The fit finds constants that were planted in rows, and one wrong plan does not move it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import calibrate
from benchmarks.gpu.calibrate import Constants, current, errors, fit
from benchmarks.gpu.memory_cases import specs
from benchmarks.gpu.scale import Scale
from benchmarks.memory.predict import predict_memory
from training.config.load import parse_job

PLANTED = Constants(workspace_gib=0.25, fragments=0.08, context_gib=1.1)


def row(number: int, constants: Constants = PLANTED, **more: Any) -> dict[str, Any]:
    tensors = 4.0 + 3 * number
    peak = tensors + constants.workspace_gib
    plan = tensors + 0.032
    return {
        "part": "memory-full",
        "case": f"case {number}",
        "status": "ok",
        "device": "cuda",
        "gpu": "NVIDIA H100",
        "driver": "580",
        "torch": "2",
        "plan_gib": plan,
        "workspace_gib": 0.032,
        "peak_gib": peak,
        "reserved_gib": peak * (1 + constants.fragments),
        "outside_gib": constants.context_gib,
        "error": plan / peak - 1,
        **more,
    }


def test_planted_constants_are_found() -> None:
    fitted = fit([row(number) for number in range(20)])
    assert fitted.workspace_gib == pytest.approx(PLANTED.workspace_gib)
    assert fitted.fragments == pytest.approx(PLANTED.fragments)
    assert fitted.context_gib == pytest.approx(PLANTED.context_gib)


def test_one_wrong_plan_does_not_move_the_fit() -> None:
    rows = [row(number) for number in range(20)]
    rows[3]["plan_gib"] -= 2
    fitted = fit(rows)
    assert fitted.workspace_gib == pytest.approx(PLANTED.workspace_gib)
    off = errors(rows, fitted)
    assert min(off) == off[3] < -0.1
    assert max(abs(error) for n, error in enumerate(off) if n != 3) < 1e-9


def test_fitted_constants_are_nearer_than_those_of_today() -> None:
    rows = [row(number) for number in range(20)]
    today, fitted = errors(rows, current()), errors(rows, fit(rows))
    assert max(map(abs, fitted)) < 1e-9 < max(map(abs, today))


def test_command_writes_the_error_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, results = tmp_path / "README.md", tmp_path / "results.jsonl"
    page.write_text("# Benchmarks\n")
    monkeypatch.setattr(calibrate, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["calibrate", str(results), "--write"])
    few = [row(0), row(1, device="cpu", outside_gib=None) | {"part": "packing"}]
    results.write_text("".join(json.dumps(one) + "\n" for one in few))
    assert calibrate.main() == 2
    assert "needs 10 rows" in capsys.readouterr().err
    # A configuration outside the tolerance is measured all the same.
    rows = [row(number, status="failed" if number == 4 else "ok") for number in range(12)]
    results.write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert calibrate.main() == 0
    text = page.read_text()
    assert "<!-- gpu-memory: begin -->" in text
    assert "| workspace, GiB | 0.032 | 0.250 |" in text
    assert "| fragmentation | 4.0% | 8.0% |" in text
    assert "| device memory, fitted constants | 12 | 0.0% |" in text
    assert "| case 4 |" in text


EVERY = [spec for group in ("full", "adapters", "methods") for spec in specs(group)]


def test_forty_configurations_are_jobs_that_differ(tmp_path: Path) -> None:
    assert len({spec.name for spec in EVERY}) == len(EVERY) >= 40
    scale = Scale("cpu", tmp_path)
    scale.model()
    assert scale.rows
    jobs = [parse_job(spec.case(scale).job(tmp_path), spec.name) for spec in EVERY]
    assert {job.adapter.kind for job in jobs if job.adapter} >= {"lora", "qlora", "prefix_tuning"}


@pytest.mark.slow
def test_every_configuration_can_be_planned(tmp_path: Path) -> None:
    scale = Scale("cpu", tmp_path)
    scale.model()
    assert scale.rows
    for spec in EVERY:
        assert predict_memory(spec.case(scale), tmp_path)["plan"], spec.name
