"""What a run left on disk, read back for its report; whatever is missing is simply empty."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class RunData:
    """One run, as its folder tells it.

    Attributes:
        name: The stage's name in a pipeline, else the job's.
        run_id: The folder's name.
        state: running, finished, stopped, failed; waiting for a stage that never began.
        message: Why it failed, where it did.
        ended: When the state was written.
        job: The resolved job.
        job_text: The same, as the file has it.
        manifest: What ran.
        plan: Predicted and measured.
        data: What it learned from.
        before: Evaluation of the untrained model.
        after: Evaluation of the trained model.
        steps: Logged steps.
        evaluations: Held-out losses.
        said: Answers sampled on the way.
        looks: Answers to the job's samples at each evaluation on the way.
        stages: The runs of a pipeline.
        written: What became of the prompts, where a run writes rows and trains nothing.
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
        """Time at work, every resume counted, the pauses between them not."""
        total = 0.0
        previous = 0.0
        for now in self.series("seconds")[1]:
            # The clock starts anew with each process.
            total += now - previous if now >= previous else now
            previous = now
        return total


def read_run_data(folder: Path) -> RunData:
    """Read the folder of a run or of a pipeline.

    Args:
        folder: May be unfinished; may lack any file.
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
    stage = _read_one(folder, name)
    if stage.state != "running" or pipeline.state == "running":
        return stage
    # A stage that went down with its pipeline was never told so.
    return RunData(**{**stage.__dict__, "state": pipeline.state, "message": pipeline.message})


def _read_one(folder: Path, name: str | None) -> RunData:
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
    for line in _read_text(path).splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            # A line cut off when the process was killed.
            continue
        if isinstance(row, Mapping) and isinstance(row.get("step"), int):
            rows.append(dict(row))
    return rows


def at(document: Any, *path: str) -> Any:
    """Return what lies at a path of keys; None where there is nothing."""
    for key in path:
        document = mapping(document).get(key)
    return document


def mapping(value: Any) -> dict[str, Any]:
    """Return a value as a mapping: empty where it is none."""
    return dict(value) if isinstance(value, Mapping) else {}
