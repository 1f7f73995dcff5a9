"""Clipped losses of PPO (Schulman et al. 2017, arXiv:1707.06347), per token.

Nothing here takes a mean: the trainer sums over a micro-batch and divides by the actions of the
complete optimizer step, so that the loss does not depend on how the step was split.
"""

from __future__ import annotations

import torch
from torch import Tensor


def policy_losses(
    new: Tensor, old: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Return the clipped policy loss of each token, and its probability ratio.

        ratio = exp(new − old)
        loss  = max(−A · ratio, −A · clip(ratio, 1 − clip_low, 1 + clip_high))

    Args:
        new: Log-probabilities under the policy in training, [actions].
        old: Log-probabilities under the policy that sampled, [actions].
        advantages: Whitened advantages A, [actions].
        clip_low: Distance below 1 at which the ratio is clipped.
        clip_high: Distance above 1 at which the ratio is clipped.
    """
    ratio = torch.exp(new - old)
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return torch.maximum(-advantages * ratio, -advantages * clipped), ratio


def value_losses(new: Tensor, old: Tensor, returns: Tensor, *, clip: float | None) -> Tensor:
    """Return the clipped value loss of each token.

        loss = ½ · max((new − R)², (old + clip(new − old, ±clip) − R)²)

    A value more than `clip` away from that of the rollout gains nothing by moving further.

    Args:
        new: Values of the critic in training, [actions].
        old: Values at the rollout, [actions].
        returns: Returns R, [actions].
        clip: Largest change that counts; None disables clipping.
    """
    error = (new - returns).square()
    if clip is None:
        return 0.5 * error
    clipped = old + (new - old).clamp(-clip, clip)
    return 0.5 * torch.maximum(error, (clipped - returns).square())


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Return the share of the returns' variance that the critic predicts; 0 if there is none.

    It is 1 for a perfect critic, and negative for one worse than the mean return.

    Args:
        values: Values at the rollout, [answers, positions].
        returns: Returns, [answers, positions].
        mask: 1 at actions, [answers, positions].
    """
    is_action = mask.bool()
    observed, predicted = returns[is_action].double(), values[is_action].double()
    variance = observed.var(correction=0)
    if variance == 0:
        return 0.0
    return float(1 - (observed - predicted).var(correction=0) / variance)
