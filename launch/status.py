"""Where a run stands, in the words people know."""

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
OVER: frozenset[State] = frozenset(("training failed", "stopped", "not deployed", "deployed"))
"""States that a run does not leave by itself."""


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        state: In one word or two. A trained model that serves nobody is `not deployed`.
        detail: What it waits for, or why it failed.
        step: Optimizer steps taken, where that is known.
        loss: The last one logged.
        seconds: How long its machines have run, over all attempts.
        cost_usd: What that has cost, by the catalogue's price; None where it has none.
    """

    state: State
    detail: str = ""
    step: int | None = None
    loss: float | None = None
    seconds: float | None = None
    cost_usd: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether it stays so unless somebody does something."""
        return self.state in OVER
