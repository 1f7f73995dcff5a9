"""Processes of a run: rank, device, process group and control messages.

Ranks come from the environment that torchrun sets; a single process is a world of size 1.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from training.errors import DeviceError
from training.nodes import ALONE, NodeSet
from training.trainer.deepspeed_import import import_deepspeed


@dataclass(frozen=True)
class World:
    """Rank and device of this process, and the number of processes."""

    rank: int
    local_rank: int
    size: int
    device: torch.device
    nodes: NodeSet = ALONE

    @property
    def is_main_process(self) -> bool:
        """True for the process that writes the files of which there must be one."""
        return self.rank == 0

    @property
    def is_local_writer(self) -> bool:
        """True on each writer of a run folder: rank 0, or one per node if no disk is shared."""
        return self.local_rank == 0 if self.nodes.own_storage else self.is_main_process

    @property
    def accelerated(self) -> bool:
        """True if the device is an accelerator rather than the CPU."""
        return self.device.type != "cpu"


def detect_world() -> World:
    """Return rank, world size and device of this process, from torchrun's variables."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    return World(
        rank=int(os.environ.get("RANK", 0)),
        local_rank=local_rank,
        size=int(os.environ.get("WORLD_SIZE", 1)),
        device=_device(local_rank),
        nodes=NodeSet.here(),
    )


def _device(local_rank: int) -> torch.device:
    if importlib.util.find_spec("torch_neuronx") is not None:
        # Registers device `neuron` and its process groups:
        # https://awsdocs-neuron.readthedocs-hosted.com/en/latest/torch/guides/torch-distributed.html
        importlib.import_module("torch_neuronx")
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        assert kind is not None
        if local_rank >= torch.accelerator.device_count():
            raise DeviceError(
                f"process {local_rank} has no device: this machine has "
                f"{torch.accelerator.device_count()} of kind {kind.type}. "
                f"Set resources.processes to at most that"
            )
        if kind.type == "neuron":
            # Accelerate and TRL create tensors on "neuron": that must be this process's core.
            torch.accelerator.set_device_index(local_rank)
        return torch.device(kind.type, local_rank)
    return torch.device("cpu")


def init_process_group(world: World, *, zero: int) -> None:
    """Initialize the default process group, unless it exists already.

    Args:
        world: Rank and device of this process.
        zero: ZeRO stage. If not 0, DeepSpeed initializes the group: under ZeRO 3 it shards the
            weights while they are loaded, so it must know the group before that.
    """
    backend = {"cpu": "gloo", "cuda": "nccl"}.get(world.device.type, world.device.type)
    import_deepspeed()
    if zero:
        import deepspeed

        # DeepSpeed's shared-memory all-reduce for CPUs is compiled at first use. Gloo does the same
        # without a compiler on the machine and without a minute's wait in the first job.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
    elif world.size > 1 and not dist.is_initialized():
        dist.init_process_group(backend)


class ControlPlane:
    """Control messages between processes, always over gloo.

    Once per step all processes agree on its metrics and on what happens next (save, evaluate,
    stop). Over gloo this synchronizes the CPU threads only: NCCL would enqueue the collective on
    the accelerator and stall it. The time-out is long because one process may tokenize or convert
    a checkpoint while the others wait.
    """

    def __init__(self, world: World):
        self.world = world
        self._group: Any = None

    def _gloo_group(self) -> Any:
        if self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(hours=6))
        return self._group

    def close(self) -> None:
        """Destroy the process group; its threads would outlive the run.

        Every process must call this, after its last message.
        """
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in the order of ranks."""
        if self.world.size == 1:
            return [value]
        everyone: list[Any] = [None] * self.world.size
        dist.all_gather_object(everyone, value, group=self._gloo_group())
        return everyone

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0."""
        if self.world.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._gloo_group())
        return box[0]

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        if self.world.size > 1:
            dist.barrier(group=self._gloo_group())
