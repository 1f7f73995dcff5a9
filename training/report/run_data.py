"""Reader of a run folder; the data of a missing or damaged file is empty."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from validation.json_lines import split_lines


@dataclass(frozen=True)
class RunData:
    """Contents of the folder of one run.

    Attributes:
        name: Name of the stage in a pipeline, else of the job.
        run_id: Name of the folder.
        state: `running`, `finished`, `stopped`, `failed`, or `waiting` for a stage that did not
            start.
        message: Reason of a failure.
        ended: Time at which the state was written.
        job: The resolved job.
        job_text: The resolved job as YAML.
        manifest: Versions, hardware, seed and hashes.
        plan: Prediction and measurement.
        data: Statistics of the data.
        before: Evaluation before training.
        after: Evaluation after training.
        steps: Logged steps.
        evaluations: Evaluations during training.
        rollout_answers: Answers sampled during reinforcement learning.
        sample_history: Answers to the job's sample prompts at each evaluation.
        stages: Runs of a pipeline.
        generation_summary: Counts of a run that generates rows and trains nothing.
        safety: Results of the safety evaluation, and the limits that they exceed.
        suites: Results of the suites of the job, and the gates that they do not pass.
        suite_reports: Path of each suite's report from the folder of the page, by its name.
    """

    name: str
    run_id: str
    state: str = "waiting"
    message: str = ""
    ended: str = ""
    job: dict[str, Any] = field(default_factory=dict)
    job_text: str = ""
    manifest: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    steps: tuple[dict[str, Any], ...] = ()
    evaluations: tuple[dict[str, Any], ...] = ()
    rollout_answers: tuple[dict[str, Any], ...] = ()
    sample_history: tuple[dict[str, Any], ...] = ()
    stages: tuple[RunData, ...] = ()
    generation_summary: dict[str, Any] = field(default_factory=dict)
    safety: dict[str, Any] = field(default_factory=dict)
    suites: dict[str, Any] = field(default_factory=dict)
    suite_reports: dict[str, str] = field(default_factory=dict)

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Return the steps at which a metric was logged, and its values (NaN where not finite)."""
        rows = self.evaluations if name.startswith("eval_") else self.steps
        points = [(r["step"], r[name]) for r in rows if isinstance(r.get(name), int | float)]
        return (
            [float(step) for step, _ in points],
            [float(value) if math.isfinite(value) else math.nan for _, value in points],
        )

    def sum(self, name: str) -> float:
        """Return a metric added up over all logged steps."""
        return sum(value for value in self.series(name)[1] if math.isfinite(value))

    @property
    def seconds(self) -> float:
        """Time of training over all starts of the run, without the time between them."""
        total = 0.0
        previous = 0.0
        for now in self.series("seconds")[1]:
            # The clock starts at zero in each process.
            total += now - previous if now >= previous else now
            previous = now
        return total


def read_run_data(folder: Path) -> RunData:
    """Read the folder of a run or of a pipeline.

    Args:
        folder: Run folder; the run may be unfinished, and any file may be missing.
    """
    run_data = _read_one(folder, None)
    if "stages" not in run_data.job:
        return run_data
    stages = []
    for number, stage in enumerate(run_data.job["stages"], start=1):
        name = str(mapping(stage).get("name", number))
        stages.append(_read_stage(folder / "stages" / f"{number:02d}-{name}", name, run_data))
    return RunData(**{**run_data.__dict__, "stages": tuple(stages)})


def _read_stage(folder: Path, name: str, pipeline: RunData) -> RunData:
    stage = _read_one(folder, name, f"{folder.parent.name}/{folder.name}/")
    if stage.state != "running" or pipeline.state == "running":
        return stage
    # If the pipeline was killed, the status file of its current stage still says `running`.
    return RunData(**{**stage.__dict__, "state": pipeline.state, "message": pipeline.message})


def _read_one(folder: Path, name: str | None, prefix: str = "") -> RunData:
    """Read one run.

    Args:
        folder: Its folder.
        name: Name of the stage in a pipeline.
        prefix: Path of the folder from that of the page, with a slash at its end.
    """
    status = _read_json(folder / "status.json")
    evaluation = _read_json(folder / "evaluation.json")
    text = _read_text(folder / "job.yaml")
    job = _read_yaml(text)
    rows = _read_rows(folder / "metrics.jsonl")
    left = _read_json(folder / "failure.json") if status.get("state") == "failed" else {}
    return RunData(
        name=name or str(job.get("name", folder.name)),
        run_id=folder.resolve().name,
        state=str(status.get("state", "waiting")),
        message=str(status.get("message") or left.get("message") or ""),
        ended=str(status.get("time", "")),
        job=job,
        job_text=text,
        manifest=_read_json(folder / "manifest.json"),
        plan=_read_json(folder / "plan.json"),
        data=_read_json(folder / "data.json"),
        before=mapping(evaluation.get("before")),
        after=mapping(evaluation.get("after")),
        steps=tuple(row for row in rows if "loss" in row),
        evaluations=tuple(row for row in rows if "eval_loss" in row),
        rollout_answers=tuple(_read_rows(folder / "answers.jsonl")),
        generation_summary=_read_json(folder / "constitution.json")
        or _read_json(folder / "written.json"),
        sample_history=tuple(_read_rows(folder / "looks.jsonl")),
        safety=_read_json(folder / "safety" / "summary.json"),
        suites=_read_json(folder / "evaluation" / "summary.json"),
        suite_reports={
            path.parent.name: f"{prefix}{path.relative_to(folder).as_posix()}"
            for path in sorted(folder.glob("evaluation/*/report.html"))
        },
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return mapping(json.loads(_read_text(path)))
    except ValueError:
        return {}


def _read_yaml(text: str) -> dict[str, Any]:
    try:
        return mapping(yaml.safe_load(text))
    except yaml.YAMLError:
        return {}


def _read_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in split_lines(_read_text(path)):
        try:
            row = json.loads(line)
        except ValueError:
            # A line cut off when the process was killed.
            continue
        if isinstance(row, Mapping) and isinstance(row.get("step"), int):
            rows.append(dict(row))
    return rows


def at(document: Any, *path: str) -> Any:
    """Return the value at a path of keys; None if a key is missing."""
    for key in path:
        document = mapping(document).get(key)
    return document


def mapping(value: Any) -> dict[str, Any]:
    """Return a value as a dictionary; an empty one if it is not a mapping."""
    return dict(value) if isinstance(value, Mapping) else {}
