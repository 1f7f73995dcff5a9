"""Guards: each file refuses to let a run go wrong silently in one way."""

from __future__ import annotations

from training.config import Job
from training.guards.finite_loss import FiniteLoss
from training.guards.parameters_updated import ParametersUpdated
from training.guards.supervised_tokens import SupervisedTokens
from training.trainer.callbacks import Callback
from training.trainer.distributed import ControlPlane
from training.trainer.lr_groups import first_fully_trainable_step


def guards_for(
    job: Job, steps_per_epoch: float, max_steps: int, control: ControlPlane
) -> list[Callback]:
    """Return the guards of a run, in the order they look."""
    settled = first_fully_trainable_step(job, max_steps)
    return [
        SupervisedTokens(),
        FiniteLoss(job.precision, zero_is_fault=not job.method.loss_may_be_zero),
        ParametersUpdated(job.guards.update_check_after, steps_per_epoch, control, settled),
    ]
