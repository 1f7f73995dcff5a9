"""Learnable preferences: sentences against the same words in random order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.factories import docstring_pairs, write_jsonl
from tests.run_commands import changed


def preference_rows(number: int) -> list[dict[str, str]]:
    """Return prompts with a docstring (chosen) and its words shuffled (rejected)."""
    rng = random.Random(0)
    rows = []
    for row in docstring_pairs(number):
        words = row["completion"].split()
        shuffled = rng.sample(words, len(words))
        if shuffled != words:
            answers = {"chosen": " ".join(words), "rejected": " ".join(shuffled)}
            rows.append({"prompt": row["prompt"], **answers})
    return rows


def unpaired_rows(number: int) -> list[dict[str, Any]]:
    """Return the same prompts with one answer each, labelled good or bad."""
    return [
        {
            "prompt": row["prompt"],
            "completion": row["rejected" if index % 3 == 0 else "chosen"],
            "label": index % 3 != 0,
        }
        for index, row in enumerate(preference_rows(number))
    ]


def write_rows(kind: str, folder: Path) -> Path:
    """Write rows for a method of this kind, and return their path."""
    rows: list[Any] = unpaired_rows(96) if kind == "kto" else preference_rows(96)
    return write_jsonl(folder / f"{kind}.jsonl", rows)


def preference_job(model: Path, rows: Path, kind: str, **sections: Any) -> dict[str, Any]:
    """Return a small job of a preference method: ten steps of eight rows, 12 % held out.

    Args:
        model: Folder of the initial model.
        rows: File of the rows.
        kind: Kind of the method.
        **sections: Changes of the job's sections.
    """
    job = {
        "name": kind,
        "model": {"source": str(model)},
        "data": {
            "train": str(rows),
            "max_length": 96,
            "workers": 1,
            "validation": {"split": "12%"},
        },
        "method": {"kind": kind},
        "train": {
            "max_steps": 10,
            "global_batch_size": 8,
            "micro_batch_size": 8,
            "learning_rate": 1e-3,
        },
        "tracking": {"mlflow": False},
    }
    return changed(job, **sections)
