"""Which process this is among how many, and which device it drives.

Read from the environment that torchrun sets; a lone process is a world of one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from training.errors import DeviceError
from training.nodes import ALONE, NodeSet


@dataclass(frozen=True)
class World:
    """The place of this process among its peers."""

    rank: int
    local_rank: int
    size: int
    device: torch.device
    nodes: NodeSet = ALONE

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes what only one may write."""
        return self.rank == 0

    @property
    def is_local_writer(self) -> bool:
        """Whether this process looks after a run folder: the first, or one on each node."""
        return self.local_rank == 0 if self.nodes.own_storage else self.is_main_process

    @property
    def accelerated(self) -> bool:
        """Whether the device is something other than the CPU."""
        return self.device.type != "cpu"


def detect_world() -> World:
    """Return this process's place, from torchrun's variables."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    return World(
        rank=int(os.environ.get("RANK", 0)),
        local_rank=local_rank,
        size=int(os.environ.get("WORLD_SIZE", 1)),
        device=_device(local_rank),
        nodes=NodeSet.here(),
    )


def _device(local_rank: int) -> torch.device:
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        assert kind is not None
        if local_rank >= torch.accelerator.device_count():
            raise DeviceError(
                f"process {local_rank} has no device: this machine has "
                f"{torch.accelerator.device_count()} of kind {kind.type}. "
                f"Set resources.processes to at most that"
            )
        return torch.device(kind.type, local_rank)
    return torch.device("cpu")


def init_process_group(world: World, *, zero: int) -> None:
    """Make this process one of its group, unless it is already.

    Args:
        world: Its place.
        zero: DeepSpeed, when it shards, must know the group before the model is loaded.
    """
    backend = {"cpu": "gloo", "cuda": "nccl"}.get(world.device.type, world.device.type)
    if zero:
        import deepspeed

        # An all-reduce through shared memory, compiled at first use. Gloo does the same without a
        # compiler on the machine, or a minute's wait at the first job.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
    elif world.size > 1 and not dist.is_initialized():
        dist.init_process_group(backend)


class ControlPlane:
    """Small messages between processes, always over gloo and never on the accelerator's queue.

    The loop agrees here, once per step, on what happened and what comes next, without making a
    device wait.
    """

    def __init__(self, world: World):
        self.world = world
        self._group: Any = None

    def _ready(self) -> Any:
        if self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(hours=6))
        return self._group

    def all_gather(self, mine: Any) -> list[Any]:
        """Return what every process passed, in the order of ranks."""
        if self.world.size == 1:
            return [mine]
        everyone: list[Any] = [None] * self.world.size
        dist.all_gather_object(everyone, mine, group=self._ready())
        return everyone

    def broadcast(self, mine: Any) -> Any:
        """Return what the first process passed."""
        if self.world.size == 1:
            return mine
        box = [mine]
        dist.broadcast_object_list(box, src=0, group=self._ready())
        return box[0]

    def barrier(self) -> None:
        """Return when every process has come here."""
        if self.world.size > 1:
            dist.barrier(group=self._ready())
