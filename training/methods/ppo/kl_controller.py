"""Estimators of the KL divergence from the reference, and the controller of its penalty.

The estimators are those of Schulman, "Approximating KL divergence"
(joschu.net/blog/kl-approx.html, 2020), for samples from the policy p and a reference q. k1 is
unbiased, so that a sum of its samples estimates the KL penalty without bias: it is used in the
reward. k3 is never negative and has a lower variance: it is logged.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_MAX_ERROR = 0.2
"""Bound of the error in one update (Ziegler et al. 2019, arXiv:1909.08593)."""


def k1(policy: Tensor, reference: Tensor) -> Tensor:
    """Return log p − log q of each token that the policy sampled, in nats."""
    return policy - reference


def k3(policy: Tensor, reference: Tensor) -> Tensor:
    """Return (q/p − 1) − log(q/p) of each token that the policy sampled, in nats."""
    log_ratio = reference - policy
    # expm1 is accurate for ratios near 1, where exp(x) − 1 would cancel.
    return torch.expm1(log_ratio) - log_ratio


class KlController:
    """Controller that adapts the KL coefficient to keep an answer `target` nats from the reference.

    With the relative error e = kl / target − 1, the logarithm of the coefficient changes after each
    rollout by

        integral · clip(e, ±0.2) + proportional · clip(Δe, ±1)

    The first term is the controller of Ziegler et al. 2019 (arXiv:1909.08593). Alone, it reacts too
    late and oscillates; the second term reacts to the change at once (PID control of a Lagrange
    multiplier: Stooke et al. 2020, arXiv:2007.03964).

    Args:
        coefficient: Initial coefficient, in reward per nat.
        target: Nats per answer; None keeps the coefficient fixed.
        integral: Gain of the error.
        proportional: Gain of the change of the error.
    """

    def __init__(
        self, coefficient: float, target: float | None, *, integral: float, proportional: float
    ):
        self.coefficient = coefficient
        self.target = target
        self.integral = integral
        self.proportional = proportional
        # The policy starts as its own reference: kl = 0, so e = −1.
        self._error = -1.0

    def update(self, kl: float) -> None:
        """Update the coefficient for the next rollout.

        Args:
            kl: Mean KL estimate of the last rollout, in nats per answer.
        """
        if self.target is None:
            return
        error = kl / self.target - 1
        step = self.integral * _clip(error, _MAX_ERROR)
        step += self.proportional * _clip(error - self._error, 1.0)
        self.coefficient *= math.exp(step)
        self._error = error

    def state_dict(self) -> dict[str, Any]:
        """Return the coefficient and the last error."""
        return {"coefficient": self.coefficient, "error": self._error}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.coefficient, self._error = float(state["coefficient"]), float(state["error"])


def _clip(value: float, bound: float) -> float:
    return max(-bound, min(bound, value))
