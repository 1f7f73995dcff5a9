"""How far the policy is from its reference, and what that costs it.

Estimators after Schulman, "Approximating KL divergence" (joschu.net/blog/kl-approx.html, 2020): k1
is unbiased and goes into the reward; k3 has a smaller variance, is never negative, and is logged.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_CLIP = 0.2
"""Largest error the controller believes at once (Ziegler et al. 2019, arXiv:1909.08593)."""


def k1(policy: Tensor, reference: Tensor) -> Tensor:
    """Return log p − log q of each token that the policy sampled, in nats."""
    return policy - reference


def k3(policy: Tensor, reference: Tensor) -> Tensor:
    """Return (q/p − 1) − log(q/p) of each token that the policy sampled, in nats."""
    log_ratio = reference - policy
    return torch.expm1(log_ratio) - log_ratio


class KlController:
    """Sets the price of a nat so that an answer stays about `target` nats from the reference.

    The price follows the relative error e = kl / target − 1 in two ways, both in its logarithm:
    `integral`·clip(e, ±0.2) at each rollout, as in Ziegler et al. 2019, and `proportional`·Δe, its
    change since the last rollout. The second answers at once where the first alone finds the
    price too late and swings (PID control of a Lagrangian: Stooke et al. 2020, arXiv:2007.03964).

    Args:
        coefficient: The price at the start.
        target: Nats an answer; None keeps the price as it is.
        integral: Gain of the error itself.
        proportional: Gain of its change.
    """

    def __init__(
        self, coefficient: float, target: float | None, *, integral: float, proportional: float
    ):
        self.coefficient = coefficient
        self.target = target
        self.integral = integral
        self.proportional = proportional
        # A policy begins as its own reference.
        self._error = -1.0

    def update(self, kl: float) -> None:
        """Set the price of the next rollout.

        Args:
            kl: Mean nats an answer of the rollout just seen.
        """
        if self.target is None:
            return
        error = kl / self.target - 1
        step = self.integral * _clipped(error, _CLIP)
        step += self.proportional * _clipped(error - self._error, 1.0)
        self.coefficient *= math.exp(step)
        self._error = error

    def state_dict(self) -> dict[str, Any]:
        """Return where it stands."""
        return {"coefficient": self.coefficient, "error": self._error}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.coefficient, self._error = float(state["coefficient"]), float(state["error"])


def _clipped(value: float, most: float) -> float:
    return max(-most, min(most, value))
