"""Load-balancing loss of mixtures of experts, which keeps a router from using few experts only.

It is Transformers' own function (Switch Transformer, arXiv:2101.03961, equations 4 to 6), added to
the loss of every method with the coefficient of the architecture (`router_aux_loss_coef`), as in
TRL:

- over the tokens of a micro-batch without its padding, all layers together;
- averaged over the micro-batches and the processes of an optimizer step, each with the same weight
  (a micro-batch of padding alone adds nothing);
- for each forward pass that is learned from: not for a reference, not in evaluation. A critic is
  balanced like its policy.

It reaches whatever is trained. If the router is frozen, as with most adapters, that is the layers
below it, which then change the hidden states that it routes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import ModelError
from training.trainer.router_recorder import expert_bodies, fit_mask, routers

_FUNCTION = "load_balancing_loss_func"
_ARGUMENTS = ["gate_logits", "num_experts", "top_k", "attention_mask"]


class BalanceLoss:
    """Load-balancing loss of the forward passes of a model.

    Args:
        model: Model with its adapters.
        coefficient: Weight of the loss, more than 0.
    """

    def __init__(self, model: nn.Module, coefficient: float):
        self.coefficient = coefficient
        body = expert_bodies(model)[0]
        function = balance_function(body)
        assert function is not None, "checked with the coefficient"
        self._function = function
        self._top_k = _experts_per_token(body)

    def of_passes(self, passes: list[list[Tensor]], mask: Tensor | None) -> list[Tensor]:
        """Return the loss of each recorded pass, without the coefficient.

        Args:
            passes: Router logits of each pass, one tensor [tokens, experts] per layer.
            mask: 1 at the tokens of the micro-batch that are not padding, [rows, sequence]; None if
                it has no padding.
        """
        if mask is not None and not mask.any():
            return []
        losses = []
        for logits in passes:
            tokens, experts = logits[0].shape
            fitted = fit_mask(mask, tokens, logits[0].device)
            losses.append(self._function(tuple(logits), experts, self._top_k, fitted))
        return losses


def balance_coefficient(model: nn.Module, override: float | None) -> float:
    """Return the coefficient of the load-balancing loss; 0 for none.

    Args:
        model: Model with its adapters.
        override: `train.router_aux_loss_coef` of the job; None for the architecture's own.

    Raises:
        ModelError: The job sets a coefficient, and the model has no such loss.
    """
    bodies = expert_bodies(model)
    if bodies and balance_function(bodies[0]) is not None:
        if override is not None:
            return override
        own = getattr(bodies[0].config.get_text_config(), "router_aux_loss_coef", None)
        return float(own or 0.0)
    if not override:
        return 0.0
    reason = (
        "its architecture has no load-balancing loss in Transformers (DeepSeek-V3, for instance, "
        "balances its experts with a bias instead)"
        if bodies
        else "it is no mixture of experts"
    )
    raise ModelError(
        f"train.router_aux_loss_coef is {override:g}, but the model {type(model).__name__} has "
        f"nothing to balance: {reason}. Leave the key out"
    )


def balance_function(body: nn.Module) -> Callable[..., Tensor] | None:
    """Return the load-balancing loss that Transformers defines for a model, if it has one."""
    function = getattr(sys.modules[type(body).__module__], _FUNCTION, None)
    if function is None or list(inspect.signature(function).parameters) != _ARGUMENTS:
        return None
    checked: Callable[..., Tensor] = function
    return checked


def token_mask(inputs: dict[str, Any], lengths: Tensor | None) -> Tensor | None:
    """Return 1 at the tokens of a micro-batch that are not padding, [rows, sequence].

    Args:
        inputs: Micro-batch of any method.
        lengths: Tokens of each row, padded on the right; None if `inputs` has masks.
    """
    if lengths is not None:
        width = inputs["input_ids"].shape[1]
        return (torch.arange(width) < lengths[:, None]).long()
    if "attention_mask" in inputs:
        mask: Tensor = inputs["attention_mask"]
        return mask
    if "prompt_mask" in inputs:
        return torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    return None


@contextmanager
def own_router_settings(model: Any) -> Iterator[None]:
    """Keep the router settings of the model's configuration while TRL builds its trainer.

    TRL's constructor writes its coefficient into the configuration, which is saved with the model,
    and turns on the output of router logits in every forward pass.

    Args:
        model: Model with its adapters.
    """
    config = model.config.get_text_config()
    names = [n for n in ("output_router_logits", "router_aux_loss_coef") if hasattr(config, n)]
    before = {name: getattr(config, name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def _experts_per_token(body: Any) -> int:
    router, _ = next(routers(body))
    return int(getattr(router, "top_k", None) or body.config.get_text_config().num_experts_per_tok)
