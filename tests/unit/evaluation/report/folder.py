"""Evaluation folder with a task of every kind of item, made by the real statistics."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from evaluation.metric import mean_metric
from evaluation.results import (
    EvaluatedModelInfo,
    EvaluationResult,
    GateResult,
    ItemResult,
    MetricResult,
    PairedResult,
    TaskResult,
)
from evaluation.statistics.paired import compare
from evaluation.statistics.summary import summarise

HOSTILE = '</script><img src=x onerror="alert(1)"><!-- & "quoted"'
_SUBJECTS = ("history", "law", "medicine")


def write_evaluation(folder: Path, items: int = 60, *, against: bool = True) -> EvaluationResult:
    """Write an evaluation whose item 3 is hostile text, 5 skipped, and 7 contaminated."""
    generator = np.random.default_rng(0)
    own, other = (generator.random(items) < share for share in (0.6, 0.4))
    scores = [np.where(np.arange(items) == 5, np.nan, side.astype(float)) for side in (own, other)]
    groups = [_SUBJECTS[n % 3] for n in range(items)]
    flags = [n == 7 for n in range(items)]
    metrics = [mean_metric("accuracy", values) for values in scores]
    summaries = [summarise(metric, groups, contaminated=flags) for metric in metrics]
    paired = compare(metrics[0], metrics[1])
    assert summaries[0] is not None
    assert summaries[1] is not None
    assert paired is not None
    loss = MetricResult(1.2034, 1.15, 1.26, 40, higher_is_better=False)
    worse = PairedResult(0.031, 0.011, 0.052, 0.0004, 0.0008, "randomization", 0, 0, 0, 38)
    tasks = {
        "mmlu": TaskResult(
            "d" * 64,
            items,
            skipped={"prompt longer than the context": 1},
            contaminated=1,
            metrics={"accuracy": summaries[0]},
            against={"accuracy": summaries[1]} if against else {},
            comparison={"accuracy": paired} if against else {},
            facts={
                "judge": {
                    "judges": [{"name": "judge-1", "unusable": 0}],
                    "flips": {"count": 4, "of": 40, "share": 0.1, "interval": [0.04, 0.23]},
                    "human": {"kappa": 0.61},
                }
            },
        ),
        "wiki": TaskResult(
            "e" * 64,
            40,
            metrics={"bits_per_byte": loss},
            against={"bits_per_byte": loss} if against else {},
            comparison={"bits_per_byte": worse} if against else {},
        ),
    }
    result = EvaluationResult(
        "product-answers",
        "a" * 64,
        EvaluatedModelInfo(
            "runs/support/latest", "b" * 64, "transformers", {"dtype": "bf16", "batch_size": 8}
        ),
        EvaluatedModelInfo("Qwen/Qwen3-0.6B", "c" * 64, "transformers") if against else None,
        tasks,
        gates=(
            GateResult("mmlu.accuracy at least 0.4", True, "the value is 0.55 on 59 items"),
            GateResult("wiki.bits_per_byte drop at most 0.02", False, "the difference is +0.031"),
        ),
        seconds=12.3,
        created="2026-01-02T03:04:05Z",
    )
    for side, place in zip(scores, (folder, folder / "against"), strict=True):
        if place == folder or against:
            _write_items(place / "items", side, items)
    (folder / "results.json").write_text(result.to_json())
    return result


def _write_items(folder: Path, scores: np.ndarray, items: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for n in range(items):
        skipped = "prompt longer than the context" if n == 5 else None
        item = ItemResult(
            id=f"q{n}",
            prompt=HOSTILE if n == 3 else f"Question {n}: what is {n} plus {n}?\nThink first.",
            target=str(2 * n),
            answers=() if skipped else (str(2 * n if scores[n] else 2 * n + 1),),
            group=_SUBJECTS[n % 3],
            prompt_tokens=12 + n,
            scores={} if skipped else {"accuracy": float(scores[n])},
            detail={"log_likelihoods": [-1.5, float("-inf")]},
            skipped=skipped,
            contaminated=n == 7,
        )
        rows.append(json.dumps(asdict(item)) + "\n")
    (folder / "mmlu.jsonl").write_text("".join(rows))
