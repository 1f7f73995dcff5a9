"""A plain TRL GRPO script. `python -m benchmarks.alignment.peers.trl_grpo FIXTURES STEPS OUT`."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer

from benchmarks.alignment.fixtures import ANSWERS, GROUP, NEW_TOKENS, PATTERN, RATE
from benchmarks.speed.peers.steps import StepLog, StepLogCallback
from benchmarks.speed.peers.trl_arguments import trl_arguments


def count_matches(completions: list[str], **_: Any) -> list[float]:
    """Return the number of matches of the pattern in each answer."""
    return [float(len(re.findall(PATTERN, text))) for text in completions]


def main(fixtures: Path, number: int, out: Path) -> None:
    """Train on sampled answers.

    Args:
        fixtures: The folder of fixtures.
        number: Optimizer steps.
        out: The file of steps.
    """
    config = GRPOConfig(
        **trl_arguments(out, number, RATE),
        per_device_train_batch_size=ANSWERS,
        num_generations=GROUP,
        max_completion_length=NEW_TOKENS,
        beta=0.05,
    )
    steps = StepLog(out)
    rows = load_dataset("json", data_files=str(fixtures / "prompts.jsonl"), split="train")
    trainer = GRPOTrainer(
        model=str(fixtures / "model"),
        reward_funcs=count_matches,
        args=config,
        train_dataset=rows,
        callbacks=[StepLogCallback(steps)],
    )
    sample = trainer._generate_single_turn

    def timed(*arguments: Any, **more: Any) -> Any:
        began = time.monotonic()
        try:
            return sample(*arguments, **more)
        finally:
            steps.sampling_seconds += time.monotonic() - began
            steps.tokens += ANSWERS * NEW_TOKENS

    trainer._generate_single_turn = timed
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
