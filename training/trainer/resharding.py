"""Resharding: resume a checkpoint with another number of processes or another ZeRO stage.

A ZeRO checkpoint is partitioned for the processes that wrote it. DeepSpeed's universal-checkpoint
converter merges the partitions into one file per parameter, which are then distributed to the
processes of the resumed run. https://www.deepspeed.ai/tutorials/universal-checkpointing/
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from training.config import Job
from training.errors import CheckpointError
from training.trainer.checkpoints import name_on_disk, tensor_files
from training.trainer.distributed import ControlPlane, World

logger = logging.getLogger(__name__)

WEIGHT = "fp32"
_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")
_PORTABLE_OPTIMIZERS = ("adamw", "sgd")

State = dict[str, torch.Tensor]
"""Weight of a parameter under `fp32`, and its optimizer states under torch's names for them."""


def needs_resharding(job: Job, world: World, facts: dict[str, Any] | None) -> bool:
    """Return whether a checkpoint was sharded for other processes than those of this run.

    Args:
        job: The run that resumes.
        world: Its processes.
        facts: Metadata of the checkpoint; None without a checkpoint.
    """
    if facts is None:
        return False
    here = (job.sharding.zero, job.sharding.fsdp)
    there = (facts["zero"], facts["fsdp"])
    sharded = here != (0, "none") or there != (0, "none")
    return sharded and (here != there or facts["world_size"] != world.size)


def check_portable(job: Job, facts: dict[str, Any]) -> None:
    """Raise if the optimizer states of a checkpoint cannot be resharded.

    Raises:
        CheckpointError: FSDP is involved, or the optimizer's states have no portable form.
    """
    there = f"{facts['world_size']} processes, zero: {facts['zero']}, fsdp: {facts['fsdp']}"
    if job.sharding.fsdp != facts["fsdp"]:
        raise CheckpointError(
            f"a checkpoint cannot move between FSDP and other sharding (it was written with "
            f"{there}). Resume with that, or start over with --fresh"
        )
    if job.train.optimizer not in _PORTABLE_OPTIMIZERS:
        raise CheckpointError(
            f"the states of optimizer {job.train.optimizer} cannot be moved to other processes "
            f"(the checkpoint was written with {there}). Resume with that, or use --fresh"
        )


@contextmanager
def open_portable(
    checkpoint: Path, facts: dict[str, Any], names: list[str], control: ControlPlane
) -> Iterator[PortableCheckpoint]:
    """Open a checkpoint for reading by parameter name, sharded or not.

    Args:
        checkpoint: A valid checkpoint.
        facts: Metadata of the checkpoint.
        names: Trainable parameters in the order in which an unsharded optimizer numbers them.
        control: Lets one process convert while the others wait.
    """
    if facts["zero"] == 0:
        yield _PlainCheckpoint(checkpoint, names)
        return
    converted = checkpoint.with_name(f".resharding-{checkpoint.name}")
    if control.world.is_main_process:
        shutil.rmtree(converted, ignore_errors=True)
        _convert(checkpoint, converted)
    control.barrier()
    try:
        yield _UniversalCheckpoint(converted)
        control.barrier()
    finally:
        if control.world.is_main_process:
            shutil.rmtree(converted, ignore_errors=True)


class PortableCheckpoint:
    """Checkpoint whose weights and optimizer states are read by parameter name."""

    def read(self, name: str) -> State:
        """Return the complete state of a parameter, in fp32.

        Raises:
            CheckpointError: The checkpoint has no such parameter.
            NotImplementedError: The subclass does not implement it.
        """
        raise NotImplementedError


class _UniversalCheckpoint(PortableCheckpoint):
    """Checkpoint in DeepSpeed's universal format: a folder per parameter."""

    def __init__(self, folder: Path):
        self.folder = folder / "zero"

    def read(self, name: str) -> State:
        state = {}
        for key in (WEIGHT, *_MOMENTS):
            path = self.folder / name / f"{key}.pt"
            if path.exists():
                loaded = torch.load(path, map_location="cpu", weights_only=False)
                state[key] = loaded["param"] if isinstance(loaded, dict) else loaded
        if WEIGHT not in state:
            raise CheckpointError(f"the checkpoint has no weights for {name}; start with --fresh")
        return state


class _PlainCheckpoint(PortableCheckpoint):
    """Unsharded checkpoint: safetensors, and torch optimizer states numbered by position."""

    def __init__(self, folder: Path, names: list[str]):
        self.weights = tensor_files(folder)
        optimizer = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        self.states = optimizer["state"]
        self.index = {name: index for index, name in enumerate(names)}

    def read(self, name: str) -> State:
        on_disk = name_on_disk(name)
        file = self.weights.get(name) or self.weights.get(on_disk)
        if file is None:
            raise CheckpointError(f"the checkpoint has no weights for {name}; start with --fresh")
        with safe_open(file, framework="pt") as tensors:
            weight = tensors.get_tensor(name if name in self.weights else on_disk)
        state = {WEIGHT: weight.float()}
        moments = self.states.get(self.index[name], {})
        state |= {key: moments[key] for key in _MOMENTS if moments.get(key) is not None}
        return state


def _convert(checkpoint: Path, target: Path) -> None:
    from deepspeed.checkpoint.ds_to_universal import main as ds_to_universal

    step = (checkpoint / "latest").read_text().strip()
    options = argparse.Namespace(
        input_folder=str(checkpoint / step),
        output_folder=str(target),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    # The converter prints a progress bar and every file name.
    with contextlib.redirect_stdout(io.StringIO()):
        ds_to_universal(options)


def shard_weights(model: torch.nn.Module, source: PortableCheckpoint) -> None:
    """Load the checkpoint's weights into a model that the engine has not wrapped yet."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            weight = source.read(name)[WEIGHT]
            with _gathered(parameter):
                parameter.data.copy_(weight.view_as(parameter).to(parameter.dtype))


@contextmanager
def _gathered(parameter: torch.nn.Parameter) -> Iterator[None]:
    """Gather a parameter that ZeRO 3 has already partitioned, and partition it again on exit."""
    if not hasattr(parameter, "ds_id"):
        yield
        return
    import deepspeed

    # Every rank writes the same values; rank 0's are the ones that are partitioned.
    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        yield


def shard_optimizer_states(
    trainer: Any, source: PortableCheckpoint, step: int, names: list[str]
) -> None:
    """Load the checkpoint's optimizer states into the engine's optimizer.

    Args:
        trainer: The trainer, after its engine was created.
        source: The checkpoint.
        step: Optimizer steps done.
        names: Trainable parameters in the order of the optimizer.
    """
    if trainer.is_deepspeed_enabled:
        _load_into_deepspeed(trainer, source, step)
        return
    parameters = dict(trainer.model.named_parameters())
    optimizer = trainer.optimizer.optimizer
    for name in names:
        parameter = parameters[name]
        moments = {k: v.to(parameter.device) for k, v in source.read(name).items() if k != WEIGHT}
        if moments:
            optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments}


def _load_into_deepspeed(trainer: Any, source: PortableCheckpoint, step: int) -> None:
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    zero = trainer.model_wrapped.optimizer
    sharded = trainer.setup.job.sharding.zero == 3
    flats = zero.fp32_partitioned_groups_flat if sharded else zero.single_partition_of_fp32_groups
    # Every process must call the setters for every parameter, in the same order: they gather it.
    trainable = [(n, p) for n, p in trainer.model.named_parameters() if p.requires_grad]
    keys = [key for key in source.read(trainable[0][0]) if key != WEIGHT]
    for flat in flats:
        # Adam creates its states in its first step. They are created here, as zeros of the flat
        # partition's shape, so that there is something to write into.
        zero.optimizer.state[flat] = {
            "step": torch.tensor(float(step), device=flat.device),
            **{key: torch.zeros_like(flat) for key in keys},
        }
    if not sharded:
        # ZeRO 1 and 2 map each low-precision parameter to its slice of the fp32 partition (`hp`
        # for high precision). The mapping was built without states: build it once more, or
        # `safe_set_full_optimizer_state` would find none.
        zero._link_all_hp_params()
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()
    for name, parameter in trainable:
        state = source.read(name)
        safe_set_full_fp32_param(parameter, state[WEIGHT].view(-1).to(parameter.device))
        for key in keys:
            safe_set_full_optimizer_state(parameter, state[key].view(-1).to(parameter.device), key)
