"""Log-probabilities of a reference model, computed once for all rows before training.

Training is then faster, and the reference model need not stay in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from training.errors import RunError
from training.trainer.context import TrainerContext
from training.trainer.seed import preserve_rng_state

_FILE = "reference.npz"


def precompute_reference_log_probs(trainer: Any, step: int, names: Sequence[str]) -> None:
    """Add the reference's log-probabilities to every row, then release the reference model.

    They are computed once, before the first step, and stored in the run folder. A resumed run has
    to read them: its model has changed, and can no longer serve as its own reference.

    Args:
        trainer: Trainer whose engine is ready; if `step` is 0, with its initial weights.
        step: Optimizer steps done.
        names: Columns, one for each tensor that `trainer.reference_logps` returns.

    Raises:
        RunError: The run resumes, and the stored values are missing.
    """
    setup: TrainerContext = trainer.setup
    path = setup.folder / _FILE
    exists = setup.control.broadcast(path.exists())
    if step and not exists:
        raise RunError(
            f"{path} is missing: it holds the reference's log-probabilities of every row, which "
            f"cannot be computed again because the model has changed since. Restore it, or start "
            f"over with --fresh"
        )
    if not step:
        tables = {"train": setup.table, "validation": setup.validation}
        columns = {
            f"{part}/{name}": values
            for part, table in tables.items()
            if table is not None
            for name, values in _compute_columns(trainer, table, names).items()
        }
        if setup.world.is_main_process:
            building = path.with_name(f".writing-{_FILE}")
            np.savez(building, **columns)  # type: ignore[arg-type]  # NumPy's stub wants a bool
            building.replace(path)
        setup.control.barrier()
    with np.load(path) as stored:
        for key in stored.files:
            part, _, name = key.partition("/")
            table: Any = setup.table if part == "train" else setup.validation
            table.add_column(name, stored[key])
    trainer.ref_model = None


def _compute_columns(
    trainer: Any, table: Any, names: Sequence[str]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return a column of each name for all rows, computed by all processes together."""
    setup: TrainerContext = trainer.setup
    world, device = setup.world, setup.world.device
    was_training = trainer.model.training
    trainer.model.eval()
    mine: dict[int, tuple[float, ...]] = {}
    global_size = setup.micro_batch_size * world.size
    with preserve_rng_state(), torch.no_grad():
        for first in range(0, len(table), global_size):
            indices = range(first + world.rank, first + global_size, world.size)
            # Every process runs every forward pass, with padding rows if it has none left: under
            # ZeRO 3 a pass gathers weights, which takes all processes.
            rows = [
                table[i] if i < len(table) else setup.collate.padding_example() for i in indices
            ]
            batch = {
                k: v.to(device) if isinstance(v, torch.Tensor) else v
                for k, v in setup.collate(rows).items()
            }
            values = zip(*(v.tolist() for v in trainer.reference_logps(batch)), strict=True)
            real = [i for i in indices if i < len(table)]
            mine |= dict(zip(real, values, strict=False))
    trainer.model.train(was_training)
    merged = {i: row for part in setup.control.all_gather(mine) for i, row in part.items()}
    assert len(merged) == len(table), (len(merged), len(table))
    columns = zip(*(merged[i] for i in range(len(table))), strict=True)
    return {
        name: np.asarray(column, dtype=np.float32)
        for name, column in zip(names, columns, strict=True)
    }
