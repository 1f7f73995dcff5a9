"""Finished run of a tiny model with logs of its calls, and the command that watches it."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.results import EvaluatedModelInfo, EvaluationResult, MetricResult, TaskResult
from temper.cli import main
from tests.factories import docstring_pairs, make_tiny_model, write_jsonl
from tests.unit.monitoring.records import captured, write_records
from training.config.load import parse_job
from training.run_folder import RunFolder

NAME = "Margaret Hamilton"
SORRY = f"I'm sorry, {NAME}, but I cannot help with that. Write to margaret@example.org."
LOOP = "again and again " * 20
WINDOW, TRAINING = 40, 100


@dataclass
class Watched:
    """Finished run of a tiny model, and logs of its calls.

    Attributes:
        run: Folder of the run.
        alike: Log of three days that resemble the training set.
        shifted: Log whose last two days do not.
        rows: File of the training set.
        folder: Folder of all of it.
    """

    run: Path
    alike: Path
    shifted: Path
    rows: Path
    folder: Path


def make_watched(folder: Path) -> Watched:
    """Write a finished run of a tiny model, and logs of its calls."""
    pairs = docstring_pairs(TRAINING + 3 * WINDOW)
    # Neighbours resemble each other: every row has the same chance to be traffic.
    random.Random(0).shuffle(pairs)
    rows = write_jsonl(folder / "rows.jsonl", pairs[:TRAINING])
    document = {
        "name": "support",
        "model": {"source": str(make_tiny_model(folder / "tiny"))},
        "data": {"train": str(rows)},
        "method": {"kind": "sft"},
    }
    job = parse_job(document, "job.yaml")
    run = RunFolder.create(folder / "runs/support/a", job)
    shutil.copytree(folder / "tiny", run.model)
    write_evaluation(run.path)
    run.set_state("finished")
    alike = [
        captured(pair["prompt"], pair["completion"], 24 * (n // WINDOW) + 8)
        for n, pair in enumerate(pairs[TRAINING:])
    ]
    shifted = [
        captured(f"Bitte übersetze den {n}. Satz: {n % 7 * 'Guten Morgen '}", answer, 24 * day + 8)
        for day in (1, 2)
        for n, answer in enumerate((SORRY, LOOP, "", "ja") * (WINDOW // 4))
    ]
    return Watched(
        run.path,
        write_records(folder / "alike/a.jsonl", alike),
        write_records(folder / "shifted/a.jsonl", alike[:WINDOW] + shifted),
        rows,
        folder,
    )


def write_evaluation(run: Path) -> None:
    """Write an evaluation whose judge has rated the answers 7 on average."""
    rating = MetricResult(7.0, 6.7, 7.3, 200, True)
    info = EvaluatedModelInfo(str(run), None, "transformers")
    result = EvaluationResult(
        "quality", "s", info, None, {"qa": TaskResult("d", 200, metrics={"judge_rating": rating})},
        (), 1.0, "2026-01-01T00:00:00Z",
    )  # fmt: skip
    folder = run / "evaluation/quality"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(result.to_json())


def watch(log: Path, out: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command and return its exit code and the report."""
    code = main(["watch", str(log), "--out", str(out), *arguments])
    return code, json.loads((out / "report.json").read_text())
