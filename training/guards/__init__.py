"""Guards: each file refuses to let a run go wrong silently in one way."""

from __future__ import annotations

from training.config import Job
from training.engine.rates import settled_at
from training.engine.watch import Watcher
from training.engine.world import ControlPlane
from training.guards.finite import FiniteLoss
from training.guards.supervised import SupervisedTokens
from training.guards.unmoved import EveryTensorMoves


def guards_for(
    job: Job, steps_per_epoch: float, max_steps: int, control: ControlPlane
) -> list[Watcher]:
    """Return the guards of a run, in the order they look."""
    settled = settled_at(job, max_steps)
    return [
        SupervisedTokens(),
        FiniteLoss(job.precision, zero_is_fault=not job.method.loss_may_be_zero),
        EveryTensorMoves(job.guards.unmoved_after, steps_per_epoch, control, settled),
    ]
