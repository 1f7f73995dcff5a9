"""Run folders of a tiny model, as a finished run leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from evaluation.results import (
    EvaluatedModelInfo,
    EvaluationResult,
    GateResult,
    MetricResult,
    PairedResult,
    TaskResult,
)
from training.export.checksums import write_checksums
from training.models.weights_digest import weights_digest

BASE = "org/base"


def make_run(root: Path, name: str = "a", **changes: Any) -> Path:
    """Return the folder of a finished run, with `changes` to its manifest and job."""
    run = root / "runs" / "support" / name
    model = run / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(bytes(str(changes.get("weights", name)), "ascii"))
    (model / "config.json").write_text("{}")
    (model / "README.md").write_text("# support\n")
    write_checksums(model)
    (run / "status.json").write_text(json.dumps({"state": changes.get("state", "finished")}))
    job = {
        "model": {"source": changes.get("base", BASE)},
        "method": {"kind": changes.get("method", "sft")},
        "train": {"learning_rate": changes.get("learning_rate", 1e-4)},
    }
    (run / "job.yaml").write_text(yaml.safe_dump(job))
    manifest = {
        "temper": "0.1",
        "commit": "c0ffee",
        "seed": 1,
        "tokenizer": changes.get("tokenizer", "t1"),
        "data": {"train": changes.get("data", "d1"), "validation": None, "prepared": {"x": "p1"}},
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    plan = {
        "predicted": {"hours": {"low": 1, "high": 2}, "cost_usd": {"low": 5, "high": 10}},
        "measured": {"hours": changes.get("hours", 1.5)},
    }
    (run / "plan.json").write_text(json.dumps(plan))
    return run


def evaluate(
    run: Path,
    *,
    value: float = 0.7,
    passed: bool = True,
    difference: float = 0.1,
    p: float = 0.01,
    against: str = BASE,
    higher_is_better: bool = True,
    suite_digest: str = "s1",
) -> None:
    """Write the results of a run on a suite of one task."""
    metric = MetricResult(value, value - 0.1, value + 0.1, 100, higher_is_better)
    pair = PairedResult(difference, -0.2, 0.2, p, p, "mcnemar", 4, 2, 14, 200)
    task = TaskResult(
        "d1", 100, metrics={"score": metric}, against={"score": metric}, comparison={"score": pair}
    )
    model = EvaluatedModelInfo(str(run), weights_digest(run / "model"), "transformers")
    other = EvaluatedModelInfo(against, None, "transformers")
    gate = GateResult("qa.score at least 0.6", passed, f"score {value}")
    result = EvaluationResult(
        "demo", suite_digest, model, other, {"qa": task}, (gate,), 1.0, "2026-01-01T00:00:00Z"
    )
    folder = run / "evaluation" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(result.to_json())


def evaluated_run(root: Path, name: str = "a", **changes: Any) -> Path:
    """Return the folder of a finished run that is better than its base."""
    run = make_run(root, name, **changes)
    evaluate(run)
    return run
