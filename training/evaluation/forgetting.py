"""What a run forgot, as one number: how much the loss on general text rose."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config import Job
from training.console import say
from training.errors import GuardError
from training.trainer.distributed import ControlPlane


@dataclass(frozen=True)
class Forgetting:
    """The loss on general text, in nats per token, before and after training."""

    before: float
    after: float

    @property
    def share(self) -> float:
        """How much it rose, relative to what it was; negative where it fell."""
        return self.after / self.before - 1

    def __str__(self) -> str:
        return (
            f"forgetting: {self.share:+.2%} (loss on general text {self.before:.4f} → "
            f"{self.after:.4f})"
        )


def forgetting_in(evaluation: dict[str, Any]) -> Forgetting | None:
    """Return what a run's `evaluation.json` says it forgot; None where it was not measured."""
    before, after = (evaluation.get(when, {}).get("forgetting") for when in ("before", "after"))
    if before is None or after is None:
        return None
    return Forgetting(before["loss"], after["loss"])


def check_forgetting(job: Job, folder: Path, control: ControlPlane) -> None:
    """Say what was forgotten, and fail a run in which it is more than the job allows.

    Args:
        job: The run.
        folder: Its folder, with the trained model in it.
        control: Every process must call this.

    Raises:
        GuardError: `evaluate.max_forgetting` was exceeded.
    """
    found = None
    if control.world.is_main_process:
        found = forgetting_in(json.loads((folder / "evaluation.json").read_text()))
    found = control.broadcast(found)
    if found is None:
        return
    if control.world.is_main_process:
        say(str(found))
    allowed = job.evaluate.max_forgetting
    if allowed is not None and found.share > allowed:
        raise GuardError(
            f"{found}; evaluate.max_forgetting allows {allowed:+.2%}. The model is kept in "
            f"{folder / 'model'}. Mix in data.replay, set train.kl_to_base or train.l2_sp, train "
            f"an adapter, or lower train.learning_rate"
        )
