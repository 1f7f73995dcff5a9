"""Trainable weights of the step with the lowest held-out loss, kept until the end of the run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor, distribute_tensor

from training.errors import CheckpointError
from training.trainer.distributed import ControlPlane

BEST_FILE = "best/weights.safetensors"
"""In a folder of its own: the weights next to it are those of the checkpoint's step."""


class BestWeights:
    """Copy of the trainable weights in one file, which is part of every checkpoint.

    The file has full tensors by parameter name, whatever the sharding: a run that resumes with
    another ZeRO stage or other processes can restore them.

    Args:
        folder: The run folder. Only the main process writes and reads the file in it.
        control: Every process must call the methods that take a model.
    """

    def __init__(self, folder: Path, control: ControlPlane):
        self.path = folder / BEST_FILE
        self.control = control

    def keep(self, model: torch.nn.Module) -> None:
        """Replace the copy by the present weights."""
        main = self.control.world.is_main_process
        tensors = {}
        for name, parameter in _trainable(model):
            full = _full_tensor(parameter)
            if main:
                tensors[name] = full.contiguous()
        if main:
            self.path.parent.mkdir(exist_ok=True)
            temporary = self.path.with_name(f".writing-{self.path.name}")
            save_file(tensors, temporary)
            temporary.replace(self.path)

    def add_to(self, checkpoint: Path) -> None:
        """Add the copy to a checkpoint that is being written; in the main process only."""
        if not self.path.exists():
            return
        (checkpoint / BEST_FILE).parent.mkdir()
        try:
            # The file is never changed, only replaced: checkpoints may share it.
            os.link(self.path, checkpoint / BEST_FILE)
        except OSError:
            shutil.copyfile(self.path, checkpoint / BEST_FILE)

    def take_from(self, checkpoint: Path) -> None:
        """Continue with the copy in a checkpoint; a later one, of lost steps, is deleted."""
        if not self.control.world.is_main_process:
            return
        self.delete()
        if (checkpoint / BEST_FILE).exists():
            self.path.parent.mkdir(exist_ok=True)
            shutil.copyfile(checkpoint / BEST_FILE, self.path)

    def restore(self, model: torch.nn.Module) -> None:
        """Load the copy into the model.

        Raises:
            CheckpointError: There is no copy, or it lacks a parameter.
        """
        main = self.control.world.is_main_process
        names = [name for name, _ in _trainable(model)]
        fault = self.control.broadcast(self._fault(names) if main else None)
        if fault is not None:
            raise CheckpointError(
                f"the best weights cannot be restored: {fault}. Run the same command again to "
                f"resume from the last checkpoint, or set train.keep: last"
            )
        with torch.no_grad():
            for name, parameter in _trainable(model):
                self._load(parameter, self._read(name) if main else None)
        self.control.barrier()

    def delete(self) -> None:
        """Delete the copy in the run folder, but not those in checkpoints."""
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def _fault(self, names: list[str]) -> str | None:
        if not self.path.exists():
            return f"{self.path} does not exist"
        with safe_open(self.path, framework="pt") as file:
            missing = sorted(set(names) - set(file.keys()))
        return f"{self.path} lacks {missing[0]}" if missing else None

    def _read(self, name: str) -> torch.Tensor:
        with safe_open(self.path, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    def _load(self, parameter: Any, tensor: torch.Tensor | None) -> None:
        """Load a full tensor, which only the main process has, into a parameter."""
        if hasattr(parameter, "ds_id"):
            import deepspeed

            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                if tensor is not None:
                    parameter.data.copy_(tensor)
            return
        device = self.control.world.device
        full = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        if tensor is not None:
            full.copy_(tensor)
        if isinstance(parameter, DTensor):
            shard = distribute_tensor(full, parameter.device_mesh, parameter.placements)
            parameter.to_local().copy_(shard.to_local())
            return
        if self.control.world.size > 1:
            dist.broadcast(full, src=0)
        parameter.data.copy_(full)


def _trainable(model: torch.nn.Module) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _full_tensor(parameter: Any) -> torch.Tensor:
    """Return a copy of a parameter on the CPU, gathered if it is sharded."""
    if hasattr(parameter, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().cpu().clone()
    full = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
    return full.detach().cpu().clone()
