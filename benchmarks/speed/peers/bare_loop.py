"""Bare training loop: forward, backward and fused AdamW on full rows, and nothing else.

Documents are concatenated and split at the row length, and attend to each other, so no position is
padding.
`python -m benchmarks.speed.peers.bare_loop FIXTURES STEPS OUT [compile]`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.speed.peers.steps import StepLog


def main(fixtures: Path, number: int, out: Path, compiled: bool) -> None:
    """Train on the rows of the fixtures.

    Args:
        fixtures: The folder of fixtures.
        number: Optimizer steps.
        out: The file of steps.
        compiled: Compile the model.
    """
    shape = json.loads((fixtures / "shape.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(fixtures / "model")
    model = AutoModelForCausalLM.from_pretrained(fixtures / "model", dtype=torch.float32)
    ids: list[int] = []
    wanted = number * shape["batch"] * shape["length"]
    for line in (fixtures / "rows.jsonl").open():
        row = json.loads(line)
        ids += tokenizer(row["prompt"] + row["completion"])["input_ids"] + [tokenizer.eos_token_id]
        if len(ids) >= wanted:
            break
    batches = torch.tensor(ids[:wanted]).view(number, shape["batch"], shape["length"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    step_model = torch.compile(model) if compiled else model
    steps = StepLog(out)
    for batch in batches:
        loss = step_model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps.tokens += batch.numel()
        steps.end(loss.item())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), "compile" in sys.argv[4:])
