"""A plain TRL DPO script.

`python -m benchmarks.alignment.peers.trl_dpo FIXTURES STEPS OUT [lora]`
"""

from __future__ import annotations

import sys
from pathlib import Path

from datasets import load_dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from benchmarks.alignment.fixtures import ALPHA, BATCH, RATE, R
from benchmarks.speed.fixtures import LENGTH
from benchmarks.speed.peers.steps import StepLog, StepLogCallback
from benchmarks.speed.peers.trl_arguments import trl_arguments


def main(fixtures: Path, number: int, out: Path, *, lora: bool) -> None:
    """Train on pairs.

    Args:
        fixtures: The folder of fixtures.
        number: Optimizer steps.
        out: The file of steps.
        lora: Train a LoRA adapter instead of all weights.
    """
    config = DPOConfig(
        **trl_arguments(out, number, RATE),
        max_length=LENGTH,
        per_device_train_batch_size=BATCH,
        beta=0.1,
    )
    steps = StepLog(out)
    rows = load_dataset("json", data_files=str(fixtures / "pairs.jsonl"), split="train")
    trainer = DPOTrainer(
        model=str(fixtures / "model"),
        args=config,
        train_dataset=rows,
        callbacks=[StepLogCallback(steps)],
        peft_config=LoraConfig(r=R, lora_alpha=ALPHA, target_modules="all-linear")
        if lora
        else None,
    )
    steps.tokens = 1  # steps are counted here, not tokens
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), lora="lora" in sys.argv[4:])
