"""Guard against optimizer steps without supervised tokens, which report a loss of 0."""

from __future__ import annotations

from typing import Any

from training.errors import GuardError
from training.step_metrics import StepMetrics
from training.trainer.callbacks import BaseCallback


class SupervisedTokens(BaseCallback):
    """Guard that stops at an optimizer step without supervised tokens."""

    def on_step(self, metrics: StepMetrics, model: Any) -> None:
        """Raise if the step had no supervised token.

        Raises:
            GuardError: The step had no supervised token.
        """
        if metrics.supervised_tokens == 0:
            rows = ", ".join(metrics.row_ids[:5])
            raise GuardError(
                f"step {metrics.step} had no supervised token in {metrics.tokens} tokens (rows "
                f"{rows}, …): the model would learn nothing from it. Look at mask_preview.txt in "
                f"the run folder; data.max_length may cut the answers off, or method.loss_on may "
                f"not fit the data"
            )
