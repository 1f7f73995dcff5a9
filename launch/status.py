"""Status of a run, in the states that every target maps its own to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal[
    "planned",
    "training",
    "training failed",
    "stopping",
    "stopped",
    "not deployed",
    "deploying",
    "deployed",
]
FINAL_STATES: frozenset[State] = frozenset(
    ("training failed", "stopped", "not deployed", "deployed")
)
"""States that a run does not leave without an action of the user."""


@dataclass(frozen=True)
class Status:
    """State and progress of a run.

    Attributes:
        state: The state. A trained model that no endpoint serves is `not deployed`.
        detail: What the run waits for, or why it failed.
        step: Optimizer steps taken; None if unknown.
        loss: Last logged loss; None if unknown.
        seconds: Machine time of all attempts; None if unknown.
        cost_usd: Cost of the machine time at the catalog's price; None without a price.
    """

    state: State
    detail: str = ""
    step: int | None = None
    loss: float | None = None
    seconds: float | None = None
    cost_usd: float | None = None

    @property
    def is_over(self) -> bool:
        """True if the state is final."""
        return self.state in FINAL_STATES


def state_name(state: State, target: str) -> str:
    """Return the words for a state of a run.

    Only models of SageMaker jobs are looked up on Bedrock; that of another target is `trained`,
    which says nothing about a deployment.

    Args:
        state: State of the run.
        target: Target that executes it.
    """
    return "trained" if state == "not deployed" and target != "sagemaker" else state
