"""Run cells of the matrix in one of two processes that stay alive for all cells.

`python -m tests.matrix.run_cell MODEL ROWS HOME`, with the environment variables of torchrun, reads
the names of cells from `HOME/cells.json`. Each cell is trained, loaded, resumed from a checkpoint,
merged and exported; `HOME/found.jsonl` gets one line per cell with its outcome.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, DistributedType
from peft import PeftModel
from transformers import AutoTokenizer

import training.trainer.deepspeed as engine
from tests.matrix.cells import CUT, STEPS, Cell, named
from tests.matrix.trained_adapter import write_adapter
from tests.run_commands import Run, read_weights
from tests.two_node import forget_deepspeed, linear
from training.config import Job
from training.config.load import parse_job
from training.data.collators.sequences import SequenceCollator
from training.data.prepare import prepare
from training.errors import JobError, ModelError
from training.export.formats import adapter_folder
from training.export.merged_folder import merged_folder
from training.models.load import load_model
from training.pipeline import run
from training.run_folder import RunFolder
from training.trainer.distributed import detect_world, init_process_group

LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
"""Nats between a loss in training and that of what was saved; bf16 is rounded on both ways."""


class Walk:
    """Takes cells all the way, in step with the other process.

    Args:
        model: The base.
        rows: What is trained on.
        home: Where cells have their run folders.
    """

    def __init__(self, model: Path, rows: Path, home: Path):
        self.model, self.rows, self.home = model, rows, home
        self.first = dist.get_rank() == 0
        names = ("one", "two")
        if self.first:
            for number, name in enumerate(names):
                write_adapter(model, home / name, seed=number, learned=None if number else rows)
        dist.barrier()
        self.members = {name: str(home / name) for name in names}

    def end_of(self, cell: Cell) -> dict[str, str]:
        """Return how a cell ends: passed, refused or failed, and what was said."""
        path = self.home / "run"
        try:
            job = parse_job(cell.job(self.model, self.rows, self.members), cell.name)
        except JobError as error:
            return {"outcome": "refused", "said": _sentence(error)}
        assert isinstance(job, Job)
        self._train(job, path)
        faults: list[str] = []
        weights: dict[str, torch.Tensor] = {}
        if self.first:
            faults = _noted(lambda: loaded(job, path))
            weights = Run(path).weights
            shutil.rmtree(path / "model")
            shutil.rmtree(path / f"checkpoints/checkpoint-{STEPS}")
        self._train(job, path)
        said = ""
        if self.first:
            faults += _noted(lambda: went_on(path, weights))
            proofs: list[str] = []
            faults += _noted(lambda: exported(cell, path, proofs))
            said = "; ".join(proofs)
        # The other process has looked at nothing; what the first says counts.
        return {"outcome": "failed" if faults else "passed", "said": "; ".join(faults) or said}

    def _train(self, job: Job, path: Path) -> None:
        if self.first:
            RunFolder.create(path, job)
        dist.barrier()
        run(RunFolder(path))
        sharded = AcceleratorState().distributed_type == DistributedType.DEEPSPEED
        assert sharded == (job.sharding.zero > 0), "trained as another cell is"
        forget_deepspeed()
        dist.barrier()


def _sentence(error: JobError) -> str:
    return "; ".join(f"`{problem.path}` {problem.message}" for problem in error.problems)


def _noted(look: Any) -> list[str]:
    """Return what is wrong; an error of one process must not leave the other waiting."""
    try:
        return list(look())
    except Exception as error:
        return [f"{type(error).__name__}: {error} {traceback.format_exc()[-4000:]}"]


def loaded(job: Job, path: Path) -> list[str]:
    """Return what is wrong with a saved adapter, loaded beside its base by PEFT alone."""
    tokenizer = AutoTokenizer.from_pretrained(path / "model")
    whole = job.model_copy(update={"sharding": job.sharding.model_copy(update={"zero": 0})})
    base = load_model(whole, tokenizer, torch.device("cpu"))
    tuned = PeftModel.from_pretrained(base, str(path / "model")).eval()
    table = prepare(job, tokenizer, cache_dir=path / "cache", run_dir=path / "again").validation
    assert table is not None and tokenizer.pad_token_id is not None
    batch = SequenceCollator(tokenizer.pad_token_id)([table[index] for index in range(len(table))])
    inputs = {"input_ids": batch["input_ids"], "use_cache": False}
    if not tuned.active_peft_config.is_prompt_learning:
        inputs["position_ids"] = batch["position_ids"]
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=job.precision == "bf16")
    with torch.no_grad(), autocast:
        logits = tuned(**inputs).logits[:, -batch["input_ids"].shape[1] :].float()
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100
    )
    evaluation: dict[str, Any] = json.loads((path / "evaluation.json").read_text())
    after, before = (evaluation[when]["validation"]["loss"] for when in ("after", "before"))
    faults = []
    if not math.isclose(float(loss), after, abs_tol=LOSS_TOLERANCE[job.precision]):
        faults.append(f"loads with a loss of {float(loss):.5f}, trained to {after:.5f}")
    if not after < before:
        faults.append(f"did not learn: {before:.5f} to {after:.5f}")
    if not all(tensor.abs().sum() > 0 for tensor in read_weights(path / "model").values()):
        faults.append("saved zeros")
    return faults


def went_on(path: Path, weights: dict[str, torch.Tensor]) -> list[str]:
    """Return what is wrong with a run that went on from its checkpoint."""
    again = Run(path)
    taken = [step["step"] for step in again.steps]
    faults = []
    if taken != list(range(1, STEPS + 1)):
        faults.append(f"did not go on from step {CUT}: {taken}")
    return faults + [
        f"goes on to another {name}"
        for name, tensor in again.weights.items()
        if not torch.allclose(tensor, weights[name], rtol=1e-5, atol=1e-6)
    ]


def exported(cell: Cell, path: Path, proofs: list[str]) -> list[str]:
    """Merge where there is a merged form, see it refused where there is none, and export."""
    model = path / "model"
    proofs.append(adapter_folder(model, path / "adapter"))
    if cell.merges:
        proofs.append(merged_folder(model, path / "merged"))
        return []
    try:
        merged_folder(model, path / "merged")
    except ModelError as error:
        return [] if "cannot be merged" in str(error) else [str(error)]
    return ["merged what has no merged form"]


def main(model: Path, rows: Path, home: Path) -> None:
    """Walk, and write what was found."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    # A tiny model's weights too are cut up, and not only a large one's.
    engine.PERSISTS_BELOW = 0
    init_process_group(detect_world(), zero=0)
    linear()
    walk = Walk(model, rows, home)
    for cell in named(json.loads((home / "cells.json").read_text())):
        start = time.monotonic()
        # Imported modules stay: searching them takes a third of a cell's time.
        gc.freeze()
        found = walk.end_of(cell)
        dist.barrier()
        if walk.first:
            shutil.rmtree(home / "run", ignore_errors=True)
            line = {"cell": cell.name, **found, "seconds": round(time.monotonic() - start, 2)}
            with (home / "found.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
