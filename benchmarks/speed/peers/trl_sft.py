"""A plain TRL script, as in its documentation, with the defaults or one of its packings.

`python -m benchmarks.speed.peers.trl_sft FIXTURES STEPS OUT default|wrapped|bfd`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from benchmarks.speed.peers.steps import StepLog, StepLogCallback
from benchmarks.speed.peers.trl_arguments import trl_arguments


def main(fixtures: Path, number: int, out: Path, packing: str) -> None:
    """Train on the rows of the fixtures.

    Args:
        fixtures: The folder of fixtures.
        number: Optimizer steps.
        out: The file of steps.
        packing: `default`, `wrapped` or `bfd`.
    """
    shape = json.loads((fixtures / "shape.json").read_text())
    rows = load_dataset("json", data_files=str(fixtures / "rows.jsonl"), split="train")
    packings = {"wrapped": {"packing_strategy": "wrapped"}, "bfd": {"packing_strategy": "bfd"}}
    # With `bfd`, TRL flattens a batch into one row; otherwise a batch has `batch` rows.
    config = SFTConfig(
        **trl_arguments(out, number, 1e-4),
        max_length=shape["length"],
        per_device_train_batch_size=shape["batch"],
        packing=packing in packings,
        **packings.get(packing, {}),
    )
    steps = StepLog(out)
    trainer = SFTTrainer(
        model=str(fixtures / "model"),
        args=config,
        train_dataset=rows,
        callbacks=[StepLogCallback(steps)],
    )
    collate = trainer.data_collator

    def count_tokens(rows: list[dict[str, Any]]) -> Any:
        steps.tokens += sum(len(row["input_ids"]) for row in rows)
        return collate(rows)

    trainer.data_collator = count_tokens
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
