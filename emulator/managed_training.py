"""Training of an emulated customization: our own, on weights that stand for the provider's model.

The records are those that the service received, so that what was converted is really learned. The
service's own training cannot be emulated: its optimizer, its batches, its speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emulator.moto_account import ROOT
from validation.json_lines import split_lines

Train = Callable[["CustomizationWork"], Path]
_LAST_LINES = 5


@dataclass(frozen=True)
class CustomizationWork:
    """Work of an emulated customization.

    Attributes:
        base: Folder of the weights that stand for the base model.
        records: Content of the file of training records.
        kind: Format of the records.
        home: Folder for the run.
        epochs: Epochs over the records.
        learning_rate: Learning rate.
    """

    base: Path
    records: str
    kind: str
    home: Path
    epochs: float
    learning_rate: float


class TrainingFailedError(Exception):
    """A customization could not be trained."""


def train_here(work: CustomizationWork) -> Path:
    """Train the records on this machine, all weights, and return the folder of the model.

    Raises:
        TrainingFailedError: The run failed.
    """
    work.home.mkdir(parents=True, exist_ok=True)
    rows = [_row(json.loads(line), work.kind) for line in split_lines(work.records)]
    data = work.home / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    job = work.home / "job.yaml"
    job.write_text(yaml.safe_dump(_job(work, data)), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "temper", "train", str(job), "--runs", str(work.home / "runs")],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise TrainingFailedError("\n".join(ended.stderr.splitlines()[-_LAST_LINES:]))
    return work.home / "runs" / "customization" / "latest" / "model"


def _job(work: CustomizationWork, data: Path) -> dict[str, Any]:
    method = "dpo" if work.kind in ("hf-preference", "converse-preference") else "sft"
    return {
        "name": "customization",
        "model": {"source": str(work.base)},
        "data": {"train": str(data), "max_length": 128},
        "method": {"kind": method},
        "tracking": {"mlflow": False},
        "train": {
            "num_train_epochs": work.epochs,
            "learning_rate": work.learning_rate,
            "global_batch_size": 8,
        },
    }


def _row(record: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a record as a row of ours: with messages, or with a pair."""
    if kind == "prompt-completion":
        return record
    if kind == "openai-chat":
        return {"messages": record["messages"]}
    if kind == "hf-preference":
        return record
    system = [{"role": "system", "content": part["text"]} for part in record.get("system", ())]
    turns = [
        {"role": turn["role"], "content": _text(turn["content"])}
        for turn in record["messages"]
        if "content" in turn
    ]
    if kind != "converse-preference":
        return {"messages": [*system, *turns]}
    answers = {
        one["preferenceLabel"]: [{"role": "assistant", "content": _text(one["content"])}]
        for one in record["messages"][-1]["candidates"]
    }
    return {
        "prompt": [*system, *turns],
        "chosen": answers["preferred"],
        "rejected": answers["non-preferred"],
    }


def _text(blocks: list[dict[str, str]]) -> str:
    return "".join(block["text"] for block in blocks)
