"""Stop rules: what triggers each of them, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from training.config.methods import Method
from training.config.ppo import Ppo
from training.errors import GuardError
from training.methods.ppo.rollout_metrics import repetition
from training.methods.ppo.stop_rules import DivergenceMonitor

HEALTHY = {
    "reward": 1.0,
    "reward_std": 0.5,
    "answers": 32.0,
    "kl": 5.0,
    "answer_tokens": 20.0,
    "ended": 0.8,
    "repetition": 0.1,
    "entropy": 1.0,
}


def ppo(**sections: Any) -> Ppo:
    document = {"kind": "ppo", "reward": {"kind": "length", "min_words": 2}, **sections}
    method: Any = TypeAdapter(Method).validate_python(document)
    assert isinstance(method, Ppo)
    return method


STRICT: dict[str, Any] = {
    "kl": {"target": 6.0, "adaptive": True, "ceiling": 12.0},
    "stop": {"max_answer_tokens": 40, "min_ended": "50%", "reward_decline_window": 8},
}


def test_a_healthy_policy_is_not_stopped() -> None:
    for method in (ppo(), ppo(**STRICT)):
        monitor = DivergenceMonitor(method)
        for step in range(100):
            monitor.check(HEALTHY, step)


@pytest.mark.parametrize(
    ("metric", "value", "message"),
    [
        ("kl", 12.5, r"12\.5 nats an answer from the reference \(method\.kl\.ceiling: 12\)"),
        ("answer_tokens", 1.5, r"method\.stop\.min_answer_tokens: 2"),
        ("answer_tokens", 41.0, r"method\.stop\.max_answer_tokens: 40"),
        ("ended", 0.4, r"0\.4 of the answers end by themselves \(method\.stop\.min_ended: 0\.5"),
        ("repetition", 0.9, r"method\.stop\.max_repetition: 0\.8"),
        ("entropy", 0.005, r"method\.stop\.min_entropy: 0\.01"),
    ],
)
def test_each_rule_names_itself(metric: str, value: float, message: str) -> None:
    with pytest.raises(GuardError, match=message):
        DivergenceMonitor(ppo(**STRICT)).check({**HEALTHY, metric: value}, 7)


def test_all_broken_rules_are_named_at_once() -> None:
    with pytest.raises(GuardError, match=r"min_answer_tokens: 2.*; .*min_entropy"):
        DivergenceMonitor(ppo()).check({**HEALTHY, "answer_tokens": 1.0, "entropy": 0.001}, 7)


def test_a_disabled_rule_does_not_stop() -> None:
    rules = ("min_answer_tokens", "max_repetition", "min_entropy", "reward_decline_window")
    off = dict.fromkeys(rules, "none")
    monitor = DivergenceMonitor(ppo(stop=off))
    degenerate = {**HEALTHY, "answer_tokens": 1.0, "repetition": 1.0, "entropy": 0.0, "kl": 900.0}
    monitor.check(degenerate, 1)


def test_the_default_ceiling_is_five_times_the_target() -> None:
    monitor = DivergenceMonitor(ppo(kl={"target": 6.0, "adaptive": True}))
    monitor.check({**HEALTHY, "kl": 29.0}, 1)
    with pytest.raises(GuardError, match="ceiling: 30"):
        monitor.check({**HEALTHY, "kl": 31.0}, 2)


def rollouts_before_stop(
    rows: list[tuple[float, float]], monitor: DivergenceMonitor | None = None
) -> int:
    """Return how many rollouts of (reward, KL) pass before a stop."""
    monitor = monitor or DivergenceMonitor(ppo(stop={"reward_decline_window": 8}))
    for step, (reward, kl) in enumerate(rows):
        try:
            monitor.check({**HEALTHY, "reward": reward, "kl": kl}, step)
        except GuardError as stop:
            assert "over 8 rollouts the reward fell from" in str(stop)
            return step
    return len(rows)


def test_a_falling_reward_at_a_growing_kl_stops_the_run() -> None:
    rising = [(step / 10, float(step)) for step in range(20)]
    assert rollouts_before_stop(rising) == 20
    assert (
        rollouts_before_stop([*rising, *((2 - step / 4, 20.0 + 2 * step) for step in range(12))])
        < 30
    )
    # A reward that falls while the KL falls too is the effect of the penalty.
    assert rollouts_before_stop([(2 - step / 10, 20.0 - step) for step in range(20)]) == 20
    # Noise of a mean over 32 answers does not count.
    assert rollouts_before_stop([(1.0 - 0.01 * (step % 2), 1.0 + step) for step in range(20)]) == 20


def test_a_resumed_monitor_stops_at_the_same_rollout() -> None:
    rows = [(2 - step / 4, 1.0 + 2 * step) for step in range(20)]
    stops_at = rollouts_before_stop(rows)
    assert 4 < stops_at < 20
    before = DivergenceMonitor(ppo(stop={"reward_decline_window": 8}))
    assert rollouts_before_stop(rows[:4], before) == 4
    after = DivergenceMonitor(ppo(stop={"reward_decline_window": 8}))
    after.load_state_dict(before.state_dict())
    assert 4 + rollouts_before_stop(rows[4:], after) == stops_at


def test_repetition_counts_ngrams_that_occurred_before() -> None:
    assert repetition([1, 2, 3]) == 0.0
    assert repetition(list(range(20))) == 0.0
    # Of 1 1 1 1 1 1: three 4-grams, of which two occurred before.
    assert repetition([1] * 6) == pytest.approx(2 / 3)
