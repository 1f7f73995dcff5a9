"""The reference of a preference method: what training started from, never anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from trl.models import prepare_deepspeed, prepare_fsdp
from trl.trainer.utils import add_fused_lm_head

from training.errors import GuardError, RunError
from training.methods.common.per_row_loss import switch_off_dropout
from training.trainer.context import TrainerContext
from training.trainer.sample_order import PADDING_INDEX
from training.trainer.seed import preserve_rng_state

_COPY = "ref"
"""The name TRL gives to a frozen copy of an adapter."""
_KEPT = "reference.npz"
_SAME = 1e-3
"""Nats per token that two ways of computing the same may differ by."""


def second_model(setup: TrainerContext) -> Any:
    """Return a frozen copy of what training starts from; None where an adapter makes it needless.

    It is loaded anew rather than copied: a model that was sharded cannot be copied.
    """
    if setup.job.adapter is not None:
        return None
    model = setup.load_initial_model()
    switch_off_dropout(model)
    return model.requires_grad_(False).eval()


def drop_needless_copy(trainer: Any) -> None:
    """Take away TRL's frozen copy of an adapter that changes nothing yet.

    To switch such an adapter off gives the same reference, without the copy's memory and work.
    """
    model = trainer.model
    if not isinstance(model, PeftModel) or _COPY not in model.peft_config:
        return
    if _changes_nothing(model):
        model.delete_adapter(_COPY)
        model.set_adapter("default")


def keep_reference(trainer: Any, temperature: float) -> None:
    """Give a trainer that samples answers its reference, as TRL's would have it.

    Args:
        trainer: Made without one.
        temperature: Answers are sampled at; log-probabilities are taken at the same.
    """
    setup: TrainerContext = trainer.setup
    model = second_model(setup)
    if model is not None:
        add_fused_lm_head(model, temperature=temperature)
        if trainer.is_deepspeed_enabled:
            trainer.ref_model = prepare_deepspeed(model, trainer.accelerator)
        elif trainer.is_fsdp_enabled:
            trainer.ref_model = prepare_fsdp(model, trainer.accelerator)
        else:
            trainer.ref_model = trainer.accelerator.prepare_model(model, evaluation_mode=True)
    elif not _changes_nothing(trainer.model):
        _copy_adapter(trainer.model)


def _copy_adapter(model: PeftModel) -> None:
    """Keep a frozen copy of a new adapter under the name TRL looks for."""
    model.add_adapter(_COPY, model.peft_config["default"])
    for name, parameter in list(model.named_parameters()):
        if ".default." in name:
            copy = model.get_parameter(name.replace(".default.", f".{_COPY}."))
            copy.data.copy_(parameter.data)
    model.set_adapter("default")


def _changes_nothing(model: PeftModel) -> bool:
    """Whether a model with its new adapter is still the model without it.

    Every kind of low-rank update starts with one factor at zero (PEFT calls it B), which is told
    from the weights; whatever else an adapter may be is taken to change something.
    """
    config = model.peft_config["default"]
    if config.is_prompt_learning or str(config.peft_type).rpartition(".")[2] != "LORA":
        return False
    factors = [p for name, p in model.named_parameters() if ".lora_B.default." in name]
    return bool(factors) and not any(_largest(factor) for factor in factors)


def _largest(parameter: torch.nn.Parameter) -> float:
    part = getattr(parameter, "ds_tensor", parameter).detach()
    return float(part.abs().max()) if part.numel() else 0.0


def check_same_at_start(trainer: Any) -> None:
    """Stop a run whose reference is not what it starts from.

    Raises:
        GuardError: The model and its reference differ before the first step.
    """
    setup: TrainerContext = trainer.setup
    count = min(setup.micro_batch_size, 4)
    batch = setup.collate([setup.table[index] for index in _first_rows(setup)[:count]])
    device = setup.world.device
    batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    was_training = trainer.model.training
    trainer.model.eval()
    with preserve_rng_state(), torch.no_grad(), trainer.compute_loss_context_manager():
        theirs = torch.cat(trainer.reference_logps(batch)).double()
        labels = batch["labels"]
        inputs = {"input_ids": batch["input_ids"], "labels": labels}
        outputs = trainer.model_wrapped(**inputs, next_token_log_probs=True)
        ours = outputs.log_probs.double().sum(1)
    trainer.model.train(was_training)
    tokens = (labels[:, 1:] != -100).sum(1).clamp(min=1)
    same_or_raise(float(((ours - theirs).abs() / tokens).max()))


def same_or_raise(apart: float) -> None:
    """Raise where the model and its reference differ before the first step.

    Args:
        apart: Nats per token, at most.

    Raises:
        GuardError: They differ by more than two ways of computing the same do.
    """
    if not apart <= _SAME:
        raise GuardError(
            f"the reference differs from the model before the first step, by {apart:.3g} nats per "
            f"token: the model would be held to something it never was. This is a fault of the "
            f"program; leave out the adapter's unusual options, or method.precompute, and report it"
        )


def _first_rows(setup: TrainerContext) -> list[int]:
    return [index for index in next(setup.order.steps()) if index != PADDING_INDEX]


def precomputed(trainer: Any, number: int, names: Sequence[str]) -> None:
    """Note with every row what the reference makes of it, computed once or read from the run.

    Args:
        trainer: Its engine is made and its weights are those it starts from, where `number` is 0.
        number: Steps done.
        names: Columns that `trainer.reference_logps` gives values for.

    Raises:
        RunError: The run goes on, and what was computed at its start is gone.
    """
    setup: TrainerContext = trainer.setup
    path = setup.folder / _KEPT
    there = setup.control.broadcast(path.exists())
    if number and not there:
        raise RunError(
            f"{path} is missing: it holds what the reference made of every row, and the model has "
            f"changed since. Put it back, or start over with FRESH=1"
        )
    if not number:
        tables = {"train": setup.table, "validation": setup.validation}
        found = {
            f"{part}/{name}": values
            for part, table in tables.items()
            if table is not None
            for name, values in _look_at_all(trainer, table, names).items()
        }
        if setup.world.is_main_process:
            building = path.with_name(f".writing-{_KEPT}")
            np.savez(building, **found)  # type: ignore[arg-type]  # NumPy's stub wants a bool here
            building.replace(path)
        setup.control.barrier()
    with np.load(path) as kept:
        for key in kept.files:
            part, _, name = key.partition("/")
            table: Any = setup.table if part == "train" else setup.validation
            table.add_column(name, kept[key])
    trainer.ref_model = None


def _look_at_all(trainer: Any, table: Any, names: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Return a value of each name for every row, computed by all processes together."""
    setup: TrainerContext = trainer.setup
    world, device = setup.world, setup.world.device
    was_training = trainer.model.training
    trainer.model.eval()
    mine: dict[int, tuple[float, ...]] = {}
    wide = setup.micro_batch_size * world.size
    with preserve_rng_state(), torch.no_grad():
        for first in range(0, len(table), wide):
            places = range(first + world.rank, first + wide, world.size)
            rows = [table[i] if i < len(table) else setup.collate.padding_example() for i in places]
            batch = {
                k: v.to(device) if isinstance(v, torch.Tensor) else v
                for k, v in setup.collate(rows).items()
            }
            values = zip(*(v.tolist() for v in trainer.reference_logps(batch)), strict=True)
            here = [i for i in places if i < len(table)]
            mine |= dict(zip(here, values, strict=False))
    trainer.model.train(was_training)
    every = {i: row for part in setup.control.all_gather(mine) for i, row in part.items()}
    assert len(every) == len(table), (len(every), len(table))
    columns = zip(*(every[i] for i in range(len(table))), strict=True)
    return {
        name: np.asarray(column, dtype=np.float32)
        for name, column in zip(names, columns, strict=True)
    }
