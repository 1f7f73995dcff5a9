"""Formulas of PPO against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from training.methods.ppo.advantages import gae, token_rewards, whiten
from training.methods.ppo.kl_controller import KlController, k1, k3
from training.methods.ppo.losses import explained_variance, policy_losses, value_losses


def test_score_is_added_to_the_last_action_and_kl_is_subtracted_from_each() -> None:
    mask = torch.tensor([[0.0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    kl = torch.tensor([[9.0, 1, 2, 3, 9], [9, 9, 4, 9, 9], [9, 9, 9, 9, 9]])
    rewards = token_rewards(torch.tensor([5.0, -1.0, 7.0]), kl, mask, 0.5)
    expected = [[0, -0.5, -1.0, 5 - 1.5, 0], [0, 0, -1 - 2.0, 0, 0], [0, 0, 0, 0, 0]]
    assert rewards.tolist() == expected


def test_gae_of_three_tokens() -> None:
    # γ = 0.9, λ = 0.5. By hand:
    # δ2 = 2 − 0.3 = 1.7;                A2 = 1.7
    # δ1 = 0 + 0.9·0.3 − 0.2 = 0.07;     A1 = 0.07 + 0.45·1.7 = 0.835
    # δ0 = 1 + 0.9·0.2 − 0.1 = 1.08;     A0 = 1.08 + 0.45·0.835 = 1.45575
    rewards = torch.tensor([[1.0, 0.0, 2.0]], dtype=torch.float64)
    values = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    advantages, returns = gae(rewards, values, torch.ones(1, 3), gamma=0.9, lam=0.5)
    assert advantages[0].tolist() == pytest.approx([1.45575, 0.835, 1.7], abs=1e-12)
    assert returns[0].tolist() == pytest.approx([1.55575, 1.035, 2.0], abs=1e-12)


def test_gae_skips_positions_without_actions() -> None:
    """A prompt, the output of a tool in between, and padding change nothing."""
    rewards = torch.tensor([[1.0, 0.0, 2.0]], dtype=torch.float64)
    values = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    plain, _ = gae(rewards, values, torch.ones(1, 3), gamma=0.9, lam=0.5)
    spread = torch.full((1, 8), 77.0, dtype=torch.float64)
    wide, wide_values = spread.clone(), spread.clone()
    where = [2, 3, 6]
    wide[0, where], wide_values[0, where] = rewards[0], values[0]
    mask = torch.zeros(1, 8)
    mask[0, where] = 1
    advantages, returns = gae(wide, wide_values, mask, gamma=0.9, lam=0.5)
    assert torch.equal(advantages[0, where], plain[0])
    assert advantages[mask == 0].abs().sum() == 0
    assert returns[mask == 0].abs().sum() == 0


def test_gae_with_lambda_1_is_return_minus_value() -> None:
    generator = torch.Generator().manual_seed(3)
    rewards = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    values = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    advantages, returns = gae(rewards, values, torch.ones(4, 9), gamma=1.0, lam=1.0)
    to_come = rewards.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(returns, to_come)
    torch.testing.assert_close(advantages, to_come - values)


def test_whitening_covers_only_the_mask() -> None:
    # 1, 3, 5 have mean 3 and variance 8/3.
    values = torch.tensor([[1.0, 100.0], [3.0, 5.0]])
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    spread = math.sqrt(8 / 3)
    white = whiten(values, mask)
    assert white.flatten().tolist() == pytest.approx([-2 / spread, 0, 0, 2 / spread], abs=1e-6)


def test_whitening_of_equal_values_is_zero() -> None:
    assert whiten(torch.full((2, 3), 4.0), torch.ones(2, 3)).abs().max() == 0


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        (1.0, 2.0, -2.0),
        (1.5, 2.0, -2.4),  # clipped at 1.2: no gain beyond
        (0.5, 2.0, -1.0),  # a good token became less likely: not clipped
        (0.5, -2.0, 1.6),  # clipped at 0.8
        (1.5, -2.0, 3.0),  # a bad token became more likely: not clipped
    ],
)
def test_clipped_policy_loss(ratio: float, advantage: float, loss: float) -> None:
    new = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    old, advantages = torch.zeros(1, 1).double(), torch.full((1, 1), advantage).double()
    losses, ratios = policy_losses(new, old, advantages, clip_low=0.2, clip_high=0.2)
    assert ratios.item() == pytest.approx(ratio)
    assert losses.item() == pytest.approx(loss)
    losses.sum().backward()
    assert new.grad is not None
    clipped = loss != pytest.approx(-advantage * ratio)
    assert new.grad.item() == pytest.approx(0.0 if clipped else -advantage * ratio)


def test_the_two_sides_have_separate_limits() -> None:
    new, old = torch.log(torch.tensor([[2.0, 0.1]])), torch.zeros(1, 2)
    losses, _ = policy_losses(new, old, torch.tensor([[1.0, -1.0]]), clip_low=0.3, clip_high=0.5)
    assert losses[0].tolist() == pytest.approx([-1.5, 0.7])


@pytest.mark.parametrize(
    ("new", "old", "seen", "loss"),
    [
        (1.1, 1.0, 2.0, 0.5 * 0.81),  # within the clip
        (1.5, 1.0, 2.0, 0.5 * 0.64),  # beyond the clip: as if at 1.2
        (0.5, 1.0, 2.0, 0.5 * 2.25),  # moved the wrong way: not clipped
    ],
)
def test_clipped_value_loss(new: float, old: float, seen: float, loss: float) -> None:
    tensors = [torch.tensor([[x]], dtype=torch.float64) for x in (new, old, seen)]
    assert value_losses(*tensors, clip=0.2).item() == pytest.approx(loss)
    assert value_losses(*tensors, clip=None).item() == pytest.approx(0.5 * (new - seen) ** 2)


def test_explained_variance() -> None:
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, 99.0]]), torch.tensor([[1.0, 1, 1, 0]])
    assert explained_variance(returns, returns, mask) == 1.0
    assert explained_variance(torch.full((1, 4), 2.0), returns, mask) == 0.0
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3.0)
    assert explained_variance(returns, torch.ones(1, 4), mask) == 0.0


def test_estimators_have_the_divergence_as_their_mean() -> None:
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    divergence = float((p * (p / q).log()).sum())
    assert float((p * k1(p.log(), q.log())).sum()) == pytest.approx(divergence)
    assert float((p * k3(p.log(), q.log())).sum()) == pytest.approx(divergence)
    assert k3(p.log(), q.log()).min() >= 0
    assert k3(p.log(), p.log()).abs().max() == 0


def test_a_fixed_coefficient_is_constant() -> None:
    fixed = KlController(0.05, None, integral=1.0, proportional=1.0)
    fixed.update(1000.0)
    assert fixed.coefficient == 0.05


def test_the_coefficient_follows_the_error() -> None:
    # The error goes −1, −0.5, 0.25, and the logarithm up by −0.5·0.2 + 2·0.5, 0.5·0.2 + 2·0.75.
    controller = KlController(0.1, 6.0, integral=0.5, proportional=2.0)
    controller.update(3.0)
    assert controller.coefficient == pytest.approx(0.1 * math.exp(0.9))
    controller.update(7.5)
    assert controller.coefficient == pytest.approx(0.1 * math.exp(0.9 + 1.6))


def test_without_proportional_gain_it_is_the_controller_of_ziegler() -> None:
    controller = KlController(0.1, 6.0, integral=0.1, proportional=0.0)
    controller.update(60.0)
    # Theirs multiplies by 1 + 0.1·0.2; the exponential agrees to the first order.
    assert controller.coefficient == pytest.approx(0.1 * 1.02, rel=3e-4)


def test_the_controller_resumes_from_its_state() -> None:
    original = KlController(0.1, 6.0, integral=0.5, proportional=2.0)
    original.update(4.0)
    restored = KlController(9.9, 6.0, integral=0.5, proportional=2.0)
    restored.load_state_dict(original.state_dict())
    original.update(8.0)
    restored.update(8.0)
    assert original.state_dict() == restored.state_dict()


def test_the_controller_returns_a_drifting_policy_to_its_target() -> None:
    """The simulated policy drifts 2 nats a rollout, and is held back by the penalty."""
    controller = KlController(0.05, 6.0, integral=0.3, proportional=1.5)
    kl, seen = 0.0, []
    for _ in range(60):
        controller.update(kl)
        kl = max(0.0, kl + 2.0 - 10.0 * controller.coefficient * kl / 6.0)
        seen.append(kl)
    assert all(abs(kl - 6.0) < 2.0 for kl in seen[20:]), seen
