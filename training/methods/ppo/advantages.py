"""Generalized advantage estimation (GAE, Schulman et al. 2016, arXiv:1506.02438).

Tensors are [answers, positions]; a mask is 1 at positions of actions. Positions between actions
(a prompt, padding, the output of a tool) are skipped: the successor of an action is the next
action.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MIN_VARIANCE = 1e-8


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """Return the reward of each token: its KL penalty, plus the score at the last action.

    Args:
        scores: Reward of each answer, [answers].
        kl: k1 estimate of the KL divergence at each token, [answers, positions].
        mask: 1 at actions, [answers, positions].
        coefficient: Penalty per nat.

    Returns:
        Rewards, [answers, positions]; 0 at positions without an action.
    """
    rewards = -coefficient * kl * mask
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (positions * mask).argmax(dim=1)
    has_action = mask.any(dim=1)
    rows = torch.arange(len(scores), device=mask.device)
    rewards[rows, last] += torch.where(has_action, scores, torch.zeros_like(scores))
    return rewards


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Return the advantages, and the returns that the critic is trained on.

        δ_t = r_t + γ · V(s_{t+1}) − V(s_t)
        A_t = δ_t + γ · λ · A_{t+1}
        R_t = A_t + V(s_t)

    An answer ends with its last action, after which the value is 0.

    Args:
        rewards: Reward of each action, [answers, positions].
        values: Critic's value before each action, [answers, positions].
        mask: 1 at actions, [answers, positions].
        gamma: Discount per token, γ.
        lam: λ; at 0 advantages rely on the critic, at 1 on observed rewards alone.

    Returns:
        Advantages and returns, [answers, positions]; 0 at positions without an action.
    """
    is_action = mask.bool()
    advantages = torch.zeros_like(rewards)
    next_advantage = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(values[:, 0])
    for t in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        advantages[:, t] = torch.where(is_action[:, t], advantage, advantages[:, t])
        # At a position without an action, the successor stays the action after it.
        next_advantage = torch.where(is_action[:, t], advantage, next_advantage)
        next_value = torch.where(is_action[:, t], values[:, t], next_value)
    return advantages, (advantages + values) * mask


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Return values shifted and scaled to mean 0 and variance 1 under the mask.

    Call this on a complete rollout: whitening the part of one process or micro-batch would make the
    result depend on how the rollout was split. Sums are in fp64, because the variance of values
    with a large common mean would cancel in fp32; the minimal variance keeps equal values at 0.

    Args:
        values: Values, [answers, positions].
        mask: 1 at the positions that count, [answers, positions].
    """
    counted = values[mask.bool()].double()
    mean = counted.mean()
    std = counted.var(correction=0).clamp(min=_MIN_VARIANCE).sqrt()
    return ((values.double() - mean) / std).to(values.dtype) * mask
