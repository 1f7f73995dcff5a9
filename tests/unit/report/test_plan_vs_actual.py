"""`plan.json` of a run: prediction and measurement."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.report.run_folders import write_run
from training.errors import JobError, Problem
from training.report.plan_vs_actual import prediction_line, write_measured, write_predicted
from training.report.run_data import read_run_data
from training.report.tables import plan_rows

PREDICTED = {
    "memory_gib": {"weights": 1.0, "total": 4.0, "device": 16.0},
    "hours": {"low": 0.5, "high": 1.5},
    "cost_usd": {"low": 1.0, "high": 3.0},
    "micro_batch_size": 4,
}


def test_a_plan_is_made_once_and_kept(tmp_path: Path) -> None:
    assert write_predicted(tmp_path, lambda: PREDICTED) == PREDICTED
    assert write_predicted(tmp_path, lambda: {"other": 1}) == PREDICTED
    assert json.loads((tmp_path / "plan.json").read_text())["predicted"] == PREDICTED


def test_no_plan_is_no_reason_not_to_train(tmp_path: Path) -> None:
    def fails() -> dict[str, float]:
        raise JobError("job.yaml", [Problem("model.source", "unknown family")])

    predicted = write_predicted(tmp_path, fails)
    assert not (tmp_path / "plan.json").exists()
    line = prediction_line(predicted)
    assert line.startswith("plan: none; the run could not be planned: job.yaml: 1 problem")
    assert "unknown family" in line and "\n" not in line
    assert prediction_line({}) == ""


def test_the_line_of_the_plan_warns_of_too_little_memory() -> None:
    assert prediction_line(PREDICTED) == "plan: 4.0 of 16.0 GiB, 30 min 00 s to 1 h 30 min"
    too_much = {**PREDICTED, "memory_gib": {"total": 20.0, "device": 16.0}}
    assert "more than the device has" in prediction_line(too_much)


def test_what_a_run_took_is_added_up_over_its_starts(tmp_path: Path) -> None:
    write_predicted(tmp_path, lambda: PREDICTED)
    write_measured(tmp_path, steps=3)
    first = json.loads((tmp_path / "plan.json").read_text())
    assert first["predicted"] == PREDICTED
    assert first["measured"]["memory_gib"]["total"] > 0
    first["measured"]["process"] = -1  # As an earlier start of the run would have left it.
    (tmp_path / "plan.json").write_text(json.dumps(first))
    write_measured(tmp_path, steps=8)
    second = json.loads((tmp_path / "plan.json").read_text())["measured"]
    assert second["hours"] > first["measured"]["hours"]
    assert second["hours_before"] == first["measured"]["hours"]
    assert second["steps"] == 8


def test_a_report_sets_measured_beside_predicted(tmp_path: Path) -> None:
    measured = {"memory_gib": {"total": 4.1}, "hours": 1.0, "cost_usd": 6.0}
    plan = {"predicted": PREDICTED, "measured": measured}
    rows = {name: rest for name, *rest in plan_rows(read_run_data(write_run(tmp_path, plan=plan)))}
    assert rows["memory"] == ["4.00 GiB", "4.10 GiB", "+2.5 %"]
    assert rows["hours"] == ["30 min 00 s to 1 h 30 min", "1 h 00 min", "within"]
    assert rows["cost"][-1] == "+100 %"
    assert rows["micro batch size"][:2] == ["4", "–"]
