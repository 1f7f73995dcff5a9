"""How much better each token was than expected: generalized advantage estimation.

Schulman et al. 2016, arXiv:1506.02438. Tensors are [answers, positions]; a mask says at which
positions the policy acted. What lies between actions (a prompt, padding, the words of a tool) is
stepped over: the next action is what follows an action.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST_SPREAD = 1e-8


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """Return each token's reward: what it strays from the reference, and at the end the score.

    Args:
        scores: Of whole answers, [answers].
        kl: k1 estimates of each token, [answers, positions].
        mask: Where the policy acted, [answers, positions].
        coefficient: Reward lost for each nat.

    Returns:
        [answers, positions]; 0 where nothing was done. The score stands on the last action.
    """
    rewards = -coefficient * kl * mask
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (positions * mask).argmax(dim=1)
    acted = mask.any(dim=1)
    rows = torch.arange(len(scores), device=mask.device)
    rewards[rows, last] += torch.where(acted, scores, torch.zeros_like(scores))
    return rewards


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Return advantages and the returns that the critic learns.

    An answer ends with its last action: nothing is expected after it.

    Args:
        rewards: Of each action, [answers, positions].
        values: What the critic expects before each action, [answers, positions].
        mask: Where the policy acted, [answers, positions].
        gamma: Discount of a token.
        lam: λ; 0 trusts the critic, 1 only what was seen.

    Returns:
        Advantages and returns, [answers, positions], 0 where nothing was done.
    """
    acted = mask.bool()
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    expected = torch.zeros_like(values[:, 0])
    for t in range(rewards.shape[1] - 1, -1, -1):
        surprise = rewards[:, t] + gamma * expected - values[:, t]
        here = surprise + gamma * lam * following
        advantages[:, t] = torch.where(acted[:, t], here, advantages[:, t])
        following = torch.where(acted[:, t], here, following)
        expected = torch.where(acted[:, t], values[:, t], expected)
    return advantages, (advantages + values) * mask


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Return values of mean 0 and variance 1 over everything that the mask covers.

    Meant for a whole rollout at once: over parts of it (a process's, a micro-batch's) the result
    would depend on how it was cut up.

    Args:
        values: [answers, positions].
        mask: What counts, [answers, positions].
    """
    counted = values[mask.bool()].double()
    mean = counted.mean()
    spread = counted.var(correction=0).clamp(min=_LEAST_SPREAD).sqrt()
    return ((values.double() - mean) / spread).to(values.dtype) * mask
