"""Fixtures of all contestants: a model with random weights, pairs and prompts."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer

from benchmarks.speed.fixtures import LENGTH, write_fixtures
from training.config import Job
from training.config.load import parse_job
from training.data.schema.rows import PreferenceRow
from training.data.tokenization.corpus import typed_rows

PAIRS, BATCH, ANSWERS, GROUP, NEW_TOKENS = 512, 8, 32, 8, 48
PATTERN = r"\b(the|and|of)\b"
"""The rewarded pattern: one that a model with random weights sometimes produces."""
RATE = 1e-5
R, ALPHA = 16, 32
"""Rank and scale of the LoRA adapters."""


def write_alignment_fixtures(text: str, preferences: str, folder: Path) -> None:
    """Write the speed benchmark's model, `pairs.jsonl` and `prompts.jsonl` to `folder`.

    Args:
        text: A data source of prompts and completions; the tokenizer is trained on it.
        preferences: A data source of pairs.
        folder: The folder to create.
    """
    write_fixtures(text, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")

    def fits(row: dict[str, str]) -> bool:
        """Return whether every contestant accepts the row without truncation."""
        if not all(text.strip() for text in row.values()):
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
    # The model is never loaded: only the rows are needed.
    document = {
        "name": "rows",
        "model": {"source": "any/model"},
        "data": {"train": source},
        "method": {"kind": "dpo"},
    }
    job = parse_job(document, "the benchmark's pairs")
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


def dpo_job(fixtures: Path, steps: int, *, precompute: bool, lora: bool) -> str:
    """Return the DPO job as YAML.

    Args:
        fixtures: The folder of `write_alignment_fixtures`.
        steps: Optimizer steps.
        precompute: Compute the reference before training.
        lora: Train a LoRA adapter instead of all weights.
    """
    adapter = {"kind": "lora", "r": R, "alpha": ALPHA, "target_modules": "all-linear"}
    return _job(
        fixtures,
        steps,
        {"train": str(fixtures / "pairs.jsonl"), "max_length": LENGTH},
        {"kind": "dpo", "beta": 0.1, "precompute": precompute},
        {"global_batch_size": BATCH, "micro_batch_size": BATCH},
        **({"adapter": adapter} if lora else {}),
    )


def ppo_job(fixtures: Path, steps: int) -> str:
    """Return the PPO job as YAML."""
    rollout = {"max_new_tokens": NEW_TOKENS, "batch": ANSWERS}
    return _rollout_job(fixtures, steps, {"kind": "ppo", "rollout": rollout, "epochs": 1})


def grpo_job(fixtures: Path, steps: int) -> str:
    """Return the GRPO job as YAML."""
    rollout = {"max_new_tokens": NEW_TOKENS}
    group = {"num_generations": GROUP, "beta": 0.05}
    return _rollout_job(fixtures, steps, {"kind": "grpo", "rollout": rollout, **group})


def _rollout_job(fixtures: Path, steps: int, method: dict[str, Any]) -> str:
    return _job(
        fixtures,
        steps,
        {"train": str(fixtures / "prompts.jsonl"), "max_length": LENGTH - NEW_TOKENS},
        {**method, "reward": {"kind": "regex_count", "pattern": PATTERN}},
        {"global_batch_size": ANSWERS, "micro_batch_size": ANSWERS},
    )


def _job(
    fixtures: Path,
    steps: int,
    data: dict[str, Any],
    method: dict[str, Any],
    train: dict[str, Any],
    **sections: Any,
) -> str:
    return yaml.safe_dump(
        {
            "name": "alignment",
            "model": {"source": str(fixtures / "model")},
            "data": data,
            "method": method,
            "train": {"max_steps": steps, "learning_rate": RATE, **train},
            **sections,
        }
    )
