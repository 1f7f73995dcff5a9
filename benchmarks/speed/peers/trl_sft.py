"""A plain TRL script, as its documentation has it, with its defaults or one of its packings.

`python -m benchmarks.speed.peers.trl_sft MATERIAL STEPS OUT default|wrapped|bfd`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from benchmarks.speed.peers.plain import plain
from benchmarks.speed.peers.steps import Noting, Steps


def main(material: Path, number: int, out: Path, packing: str) -> None:
    """Train for `number` steps on the rows of `material`."""
    shape = json.loads((material / "shape.json").read_text())
    rows = load_dataset("json", data_files=str(material / "rows.jsonl"), split="train")
    packings = {"wrapped": {"packing_strategy": "wrapped"}, "bfd": {"packing_strategy": "bfd"}}
    # TRL's best fit makes one flat row of a batch; the others make `batch` rows.
    config = SFTConfig(
        **plain(out, number, 1e-4),
        max_length=shape["length"],
        per_device_train_batch_size=shape["batch"],
        packing=packing in packings,
        **packings.get(packing, {}),
    )
    steps = Steps(out)
    trainer = SFTTrainer(
        model=str(material / "model"),
        args=config,
        train_dataset=rows,
        callbacks=[Noting(steps)],
    )
    collate = trainer.data_collator

    def counted(rows: list[dict[str, Any]]) -> Any:
        steps.tokens += sum(len(row["input_ids"]) for row in rows)
        return collate(rows)

    trainer.data_collator = counted
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
