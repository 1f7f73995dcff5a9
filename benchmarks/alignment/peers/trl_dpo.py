"""A plain TRL DPO script.

`python -m benchmarks.alignment.peers.trl_dpo MATERIAL STEPS OUT [lora]`
"""

from __future__ import annotations

import sys
from pathlib import Path

from datasets import load_dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from benchmarks.alignment.fixtures import ALPHA, BATCH, RATE, R
from benchmarks.speed.fixtures import LENGTH
from benchmarks.speed.peers.plain import plain
from benchmarks.speed.peers.steps import Noting, Steps


def main(material: Path, number: int, out: Path, *, lora: bool) -> None:
    """Train for `number` steps on the pairs of `material`, every weight or an adapter."""
    config = DPOConfig(
        **plain(out, number, RATE),
        max_length=LENGTH,
        per_device_train_batch_size=BATCH,
        beta=0.1,
    )
    steps = Steps(out)
    rows = load_dataset("json", data_files=str(material / "pairs.jsonl"), split="train")
    trainer = DPOTrainer(
        model=str(material / "model"),
        args=config,
        train_dataset=rows,
        callbacks=[Noting(steps)],
        peft_config=LoraConfig(r=R, lora_alpha=ALPHA, target_modules="all-linear")
        if lora
        else None,
    )
    steps.tokens = 1  # what is counted here is steps
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), lora="lora" in sys.argv[4:])
