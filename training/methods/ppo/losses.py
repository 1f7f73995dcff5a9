"""What PPO minimises (Schulman et al. 2017, arXiv:1707.06347), token by token.

Nothing here takes a mean: the caller sums over a micro-batch and divides by the action tokens of
the whole optimizer step, so that the loss does not depend on how a step was cut up.
"""

from __future__ import annotations

import torch
from torch import Tensor


def policy_losses(
    new: Tensor, old: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Return the clipped policy loss of each token, and the ratio of new to old probability.

    Args:
        new: Log-probabilities under the policy being trained, [answers, positions].
        old: Under the policy that answered, [answers, positions].
        advantages: Whitened, [answers, positions].
        clip_low: How far below 1 a ratio still counts.
        clip_high: How far above 1 a ratio still counts.
    """
    ratio = torch.exp(new - old)
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return torch.maximum(-advantages * ratio, -advantages * clipped), ratio


def value_losses(new: Tensor, old: Tensor, returns: Tensor, *, clip: float | None) -> Tensor:
    """Return the clipped squared error of each value, halved.

    A value that has moved more than `clip` from where it was at the rollout gains nothing by
    moving further.

    Args:
        new: Values of the critic being trained, [answers, positions].
        old: Values at the rollout, [answers, positions].
        returns: What was seen, [answers, positions].
        clip: None leaves values unclipped.
    """
    error = (new - returns).square()
    if clip is None:
        return 0.5 * error
    near = old + (new - old).clamp(-clip, clip)
    return 0.5 * torch.maximum(error, (near - returns).square())


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Return the share of the returns' variance that the critic foresaw; 0 where there is none.

    1 is a perfect critic; below 0, expecting the mean return would be better.

    Args:
        values: At the rollout, [answers, positions].
        returns: [answers, positions].
        mask: What counts, [answers, positions].
    """
    acted = mask.bool()
    seen, foreseen = returns[acted].double(), values[acted].double()
    variance = seen.var(correction=0)
    if variance == 0:
        return 0.0
    return float(1 - (seen - foreseen).var(correction=0) / variance)
