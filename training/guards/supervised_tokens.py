"""A step in which nothing was supervised teaches nothing, and reports a loss of 0."""

from __future__ import annotations

from typing import Any

from training.errors import GuardError
from training.step_metrics import StepMetrics
from training.trainer.callbacks import BaseCallback


class SupervisedTokens(BaseCallback):
    """Stops at an optimizer step without a supervised token."""

    def on_step(self, facts: StepMetrics, model: Any) -> None:
        """Raise when the loss of this step was a mean over nothing.

        Raises:
            GuardError: Names the step and the rows.
        """
        if facts.supervised_tokens == 0:
            rows = ", ".join(facts.row_ids[:5])
            raise GuardError(
                f"step {facts.step} had no supervised token in {facts.tokens} tokens (rows "
                f"{rows}, …): the model would learn nothing from it. Look at mask_preview.txt in "
                f"the run folder; data.max_length may cut the answers off, or method.loss_on may "
                f"not fit the data"
            )
