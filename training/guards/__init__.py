"""Guards: callbacks and checks that stop a run that would otherwise fail silently.

Each file guards against one failure: a loss that is NaN, a step without supervised tokens,
parameters that are not updated, shapes that are compiled again and again, a saved model that
differs from the trained one.
"""

from __future__ import annotations

from training.config import Job
from training.guards.expert_collapse import ExpertLoad as ExpertLoad
from training.guards.finite_loss import FiniteLoss
from training.guards.parameters_updated import ParametersUpdated
from training.guards.recompilations import Recompilations
from training.guards.supervised_tokens import SupervisedTokens
from training.trainer.callbacks import Callback
from training.trainer.distributed import ControlPlane
from training.trainer.lr_groups import first_fully_trainable_step


def guards_for(
    job: Job, steps_per_epoch: float, max_steps: int, control: ControlPlane, *, static: bool = False
) -> list[Callback]:
    """Return the guards of a run, in the order in which they check a step.

    Args:
        job: The run.
        steps_per_epoch: Optimizer steps per epoch.
        max_steps: Optimizer steps of the complete run.
        control: Control messages between the processes.
        static: Whether the shapes of the batches are static.
    """
    all_learn_at = first_fully_trainable_step(job, max_steps)
    return [
        SupervisedTokens(),
        FiniteLoss(job.precision, zero_is_fault=not job.method.loss_may_be_zero),
        ParametersUpdated(job.guards.update_check_after, steps_per_epoch, control, all_learn_at),
        ExpertLoad(job.guards.expert_collapse),
        *([Recompilations()] if static else []),
    ]
