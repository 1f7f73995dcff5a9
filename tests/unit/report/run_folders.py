"""Run folders for report tests, with the files that a run writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

JOB = """\
name: tiny
model: {source: models/tiny-llama}
data:
  train:
  - source: data/pairs.jsonl
method: {kind: sft}
adapter: {kind: lora, r: 8}
train: {global_batch_size: 8}
"""

MANIFEST = {
    "name": "tiny",
    "started": "2026-03-01T10:00:00Z",
    "resumed": [],
    "temper": "0.1.0",
    "commit": "c0ffee",
    "python": "3.11.7",
    "packages": {"torch": "2.13.0", "deepspeed": None},
    "hardware": {"device": "cpu", "device_name": "x86_64", "cores": 2, "processes": 1},
    "seed": 42,
    "data": {"train": "aaaa", "validation": "bbbb", "rows": 64},
    "tokenizer": "cccc",
    "model": {"source": "models/tiny-llama", "parameters": 260_032, "trainable": 8_960},
    "steps": 20,
    "micro_batch_size": 4,
    "accumulation": 2,
}

DATA = {
    "sources": [
        {
            "source": "data/pairs.jsonl",
            "role": "train",
            "shapes": ["prompt_completion"],
            "rows_read": 80,
            "rows_skipped": 1,
            "rows_dropped": 3,
            "rows_kept": 76,
            "rows_truncated": 2,
            "tokens": 12_345,
            "supervised": 6_789,
            "tokens_trained": 11_111,
        }
    ],
    "rows_train": 64,
    "rows_validation": 8,
    "tokens": 11_111,
    "supervised": 5_000,
    "max_length": 256,
    "longest": 200,
    "median": 120.0,
    "truncated_share": 0.02,
    "packed": False,
    "efficiency": 0.7,
    "dropped_reasons": {"the answer is empty": 3},
    "template": "chatml",
    "warnings": ["look at the rows"],
    "mask_preview": [
        {"id": "pairs.jsonl:1", "segments": [["Ask this", False], ["Say that", True]]}
    ],
    "terms": {
        "terms": [{"term": "photosynthesis", "pieces": ["photo", "synthesis"], "per_word": 2.0}],
        "fertility": 2.0,
    },
}


def step(number: int, loss: float, **more: Any) -> dict[str, Any]:
    """Return one logged step."""
    return {
        "step": number,
        "epoch": number / 10,
        "loss": loss,
        "learning_rate": 1e-3,
        "grad_norm": 1.5,
        "tokens": 100,
        "supervised_tokens": 50,
        "tokens_per_second": 1234.5,
        "mfu": None,
        "memory_gib": 0.5,
        "seconds": float(number),
        **more,
    }


def measured(loss: float, **more: Any) -> dict[str, Any]:
    """Return one side of an evaluation."""
    return {"validation": {"loss": loss, "perplexity": 2.718**loss, "tokens": 500.0}, **more}


def write_run(
    folder: Path,
    *,
    state: str = "finished",
    message: str | None = None,
    job: str = JOB,
    rows: list[dict[str, Any]] | None = None,
    **files: Any,
) -> Path:
    """Write a run folder; `evaluation`, `data`, `manifest` and `plan` go into their files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "job.yaml").write_text(job)
    status = {"state": state, "time": "2026-03-01T10:05:00Z"}
    _write(folder / "status.json", {**status, **({"message": message} if message else {})})
    if rows is None:
        rows = [step(n, 4.0 - n / 10) for n in range(1, 21)]
    write_metrics(folder, rows)
    files.setdefault("manifest", MANIFEST)
    files.setdefault("data", DATA)
    for name, content in files.items():
        _write(folder / f"{name}.json", content)
    return folder


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write (or, as a resume does, replace) the metrics of a run."""
    building = folder / "metrics.writing"
    building.write_text("".join(json.dumps(row) + "\n" for row in rows))
    building.replace(folder / "metrics.jsonl")


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))
