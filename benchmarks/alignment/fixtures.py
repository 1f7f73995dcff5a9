"""What all peers are given: one model from random weights, one set of pairs, one of prompts."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer

from benchmarks.speed.fixtures import LENGTH, make_material
from training.config import Job
from training.config.load import parse_job
from training.data.schema.rows import PreferenceRow
from training.data.tokenization.corpus import typed_rows

PAIRS, BATCH, ANSWERS, GROUP, NEW_TOKENS = 512, 8, 32, 8, 48
PATTERN = r"\b(the|and|of)\b"
"""What an answer is rewarded for: a rule that random weights sometimes meet."""
RATE = 1e-5
R, ALPHA = 16, 32
"""Of the LoRA adapters."""


def make(text: str, preferences: str, folder: Path) -> None:
    """Write the speed benchmark's model, `pairs.jsonl` and `prompts.jsonl` to `folder`.

    Args:
        text: A data source of prompts and completions: the tokenizer is trained on it.
        preferences: A data source of pairs.
        folder: Is made.
    """
    make_material(text, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")

    def fits(row: dict[str, str]) -> bool:
        """Whether no peer refuses it or has to cut it."""
        if not all(side.strip() for side in row.values()):
            return False
        sides = (row["prompt"] + row["chosen"], row["prompt"] + row["rejected"])
        return all(len(tokenizer(side)["input_ids"]) < LENGTH - 2 for side in sides)

    with (folder / "pairs.jsonl").open("w") as file:
        for row in islice(filter(fits, _pairs(preferences)), PAIRS):
            file.write(json.dumps(row) + "\n")
    rows = [json.loads(line) for line in (folder / "rows.jsonl").open()]
    with (folder / "prompts.jsonl").open("w") as file:
        for row in rows[:PAIRS]:
            file.write(json.dumps({"prompt": row["prompt"][:120]}) + "\n")


def _pairs(source: str) -> Any:
    # The model is never loaded: only the rows are wanted.
    asked = {
        "name": "rows",
        "model": {"source": "any/model"},
        "data": {"train": source},
        "method": {"kind": "dpo"},
    }
    job = parse_job(asked, "the benchmark's pairs")
    assert isinstance(job, Job)
    for row in typed_rows(job):
        assert isinstance(row, PreferenceRow)
        yield {
            "prompt": _text(row.prompt),
            "chosen": _text(row.chosen),
            "rejected": _text(row.rejected),
        }


def _text(side: Any) -> str:
    if isinstance(side, str):
        return side
    return "".join(f"\n\n{message['role']}: {message['content']}" for message in side)


def dpo_job(material: Path, steps: int, *, precompute: bool, lora: bool) -> str:
    """Return the job file, as YAML, that does the peers' work on pairs."""
    adapter = {"kind": "lora", "r": R, "alpha": ALPHA, "target_modules": "all-linear"}
    return _job(
        material,
        steps,
        {"train": str(material / "pairs.jsonl"), "max_length": LENGTH},
        {"kind": "dpo", "beta": 0.1, "precompute": precompute},
        {"global_batch_size": BATCH, "micro_batch_size": BATCH},
        **({"adapter": adapter} if lora else {}),
    )


def ppo_job(material: Path, steps: int) -> str:
    """Return the job file, as YAML, that does the peers' work on prompts."""
    rollout = {"max_new_tokens": NEW_TOKENS, "batch": ANSWERS}
    return _answering(material, steps, {"kind": "ppo", "rollout": rollout, "epochs": 1})


def grpo_job(material: Path, steps: int) -> str:
    """Return the job file, as YAML, of GRPO itself."""
    rollout = {"max_new_tokens": NEW_TOKENS}
    group = {"num_generations": GROUP, "beta": 0.05}
    return _answering(material, steps, {"kind": "grpo", "rollout": rollout, **group})


def _answering(material: Path, steps: int, method: dict[str, Any]) -> str:
    return _job(
        material,
        steps,
        {"train": str(material / "prompts.jsonl"), "max_length": LENGTH - NEW_TOKENS},
        {**method, "reward": {"kind": "regex_count", "pattern": PATTERN}},
        {"global_batch_size": ANSWERS, "micro_batch_size": ANSWERS},
    )


def _job(
    material: Path,
    steps: int,
    data: dict[str, Any],
    method: dict[str, Any],
    train: dict[str, Any],
    **more: Any,
) -> str:
    return yaml.safe_dump(
        {
            "name": "alignment",
            "model": {"source": str(material / "model")},
            "data": data,
            "method": method,
            "train": {"max_steps": steps, "learning_rate": RATE, **train},
            **more,
        }
    )
