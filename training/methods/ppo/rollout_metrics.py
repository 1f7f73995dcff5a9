"""Metrics of a rollout, and its answers as they are logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from training.methods.common.rollout_log import LoggedAnswer
from training.methods.ppo.kl_controller import k1, k3
from training.methods.ppo.rollout import Transition

_NGRAM = 4


def rollout_metrics(transitions: Sequence[Transition]) -> dict[str, float]:
    """Return the means over the answers of a rollout.

    Returns:
        `reward`, its standard deviation and its extremes; `reward_NAME` for each of several
        rewards; `kl` (k1) and `kl_k3` in nats per answer; `kl_token` and `entropy` in nats per
        token; `answers`; `answer_tokens`; `ended`, the share that ended with an end token; and
        `repetition`.
    """
    count = len(transitions)
    scores = torch.tensor([t.score for t in transitions], dtype=torch.float64)
    tokens = sum(len(t.answer_ids) for t in transitions)
    kl = sum(_answer_kl(t) for t in transitions)
    kl_k3 = sum(
        float(k3(t.old_log_probs, t.reference_log_probs).double().sum()) for t in transitions
    )
    metrics = {
        "reward": float(scores.mean()),
        "reward_std": float(scores.std(correction=0)),
        "reward_min": float(scores.min()),
        "reward_max": float(scores.max()),
        "kl": kl / count,
        "kl_k3": kl_k3 / count,
        "kl_token": kl / tokens,
        "entropy": sum(float(t.entropy.double().sum()) for t in transitions) / tokens,
        "answers": float(count),
        "answer_tokens": tokens / count,
        "ended": sum(t.ended for t in transitions) / count,
        "repetition": sum(repetition(t.answer_ids) for t in transitions) / count,
    }
    if len(transitions[0].rewards) > 1:
        for name in transitions[0].rewards:
            metrics[f"reward_{name}"] = sum(t.rewards[name] for t in transitions) / count
    return metrics


def repetition(ids: Sequence[int]) -> float:
    """Return the share of an answer's 4-grams that occurred in it before."""
    grams = [tuple(ids[i : i + _NGRAM]) for i in range(len(ids) - _NGRAM + 1)]
    return 1 - len(Counter(grams)) / len(grams) if grams else 0.0


def logged_answer(transition: Transition) -> LoggedAnswer:
    """Return an answer as it is written to the log."""
    return LoggedAnswer(
        prompt=transition.prompt,
        answer=transition.text,
        reward=transition.score,
        kl=_answer_kl(transition),
        ended=transition.ended,
    )


def _answer_kl(transition: Transition) -> float:
    return float(k1(transition.old_log_probs, transition.reference_log_probs).double().sum())
