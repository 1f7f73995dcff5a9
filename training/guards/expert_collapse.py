"""Guard against a router that sends nearly all tokens to the same experts.

Such a mixture of experts trains on as a small dense model, and no loss shows it.
"""

from __future__ import annotations

from typing import Any

from training.config.runtime import ExpertCollapse
from training.console import say
from training.errors import GuardError
from training.expert_load import ExpertCounts
from training.step_metrics import StepMetrics
from training.trainer.callbacks import BaseCallback


class ExpertLoad(BaseCallback):
    """Guard that warns or stops after a number of steps with an uneven load of a layer's experts.

    Args:
        bounds: Bounds of the load, and what happens outside of them.
    """

    def __init__(self, bounds: ExpertCollapse):
        self._bounds = bounds
        self._outside: dict[str, int] = {}
        self._warned: set[str] = set()

    def on_step(self, metrics: StepMetrics, model: Any) -> None:
        """Count the steps in a row in which a layer was outside the bounds.

        Raises:
            GuardError: There were too many, and the job asks to stop.
        """
        for layer in metrics.experts:
            fault = self._fault(layer)
            count = self._outside.get(layer.layer, 0) + 1 if fault else 0
            self._outside[layer.layer] = count
            if fault and count >= self._bounds.steps and layer.layer not in self._warned:
                self._warned.add(layer.layer)
                self._report(f"after {count} steps in a row {layer.layer} {fault}", metrics.step)

    def _fault(self, layer: ExpertCounts) -> str | None:
        """Return what is wrong with the load of a layer, if anything is."""
        if not layer.total:
            return None
        experts, bounds = len(layer.counts), self._bounds
        # A layer that uses every expert for every token has no choice.
        if layer.top_k < experts and layer.busiest_share > bounds.max_share:
            return (
                f"sends {layer.busiest_share:.1%} of its tokens to {layer.top_k} of {experts} "
                f"experts (max_share: {bounds.max_share:.1%})"
            )
        if min(layer.shares) < bounds.min_share:
            return (
                f"sends {min(layer.shares):.2%} of its tokens to one of its {experts} experts, "
                f"{layer.dead} of which get none (min_share: {bounds.min_share:.2%})"
            )
        return None

    def _report(self, what: str, step: int) -> None:
        text = (
            f"step {step}: {what}. The router has collapsed: raise train.router_aux_loss_coef, "
            f"lower train.learning_rate, or freeze the router (model.freeze.patterns). The bounds "
            f"are those of guards.expert_collapse"
        )
        if self._bounds.action == "stop":
            raise GuardError(text)
        say(f"warning: {text}")
