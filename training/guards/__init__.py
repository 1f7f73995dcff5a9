"""Guards: each file refuses to let a run go wrong silently in one way."""

from __future__ import annotations

from training.config import Job
from training.engine.watch import Watcher
from training.engine.world import ControlPlane
from training.guards.finite import FiniteLoss
from training.guards.supervised import SupervisedTokens
from training.guards.unmoved import EveryTensorMoves


def guards_for(job: Job, steps_per_epoch: float, control: ControlPlane) -> list[Watcher]:
    """Return the guards of a run, in the order they look."""
    return [
        SupervisedTokens(),
        FiniteLoss(job.precision),
        EveryTensorMoves(job.guards.unmoved_after, steps_per_epoch, control),
    ]
