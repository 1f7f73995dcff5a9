"""What is measured of a model, in words, and which way is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from training.report.run_data import RunData, at

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class MetricLabel:
    """One measure of held-out rows.

    Attributes:
        words: What it is called.
        better: Which way is better; empty where neither is by itself.
        digits: Shown after the point.
    """

    words: str
    better: Better = ""
    digits: int = 4


MEASURES = {
    "loss": MetricLabel("loss", "lower"),
    "perplexity": MetricLabel("perplexity", "lower", 2),
    "nll": MetricLabel("loss per token of the chosen sequences", "lower"),
    "odds_loss": MetricLabel("loss of the odds ratio", "lower"),
    "accuracy": MetricLabel("chosen above rejected, share of pairs", "higher", 3),
    "auc": MetricLabel("good above bad, share of all pairs of the two (AUC)", "higher", 3),
    "margin": MetricLabel("how far above", "higher", 3),
    "reward": MetricLabel("reward of a sampled answer", "higher", 3),
    "calibration_error": MetricLabel("distance of certainty from accuracy", "lower", 3),
    "mean_score": MetricLabel("mean score", "", 3),
    "length_correlation": MetricLabel("correlation of score and length", "", 2),
    "longer_scored_higher": MetricLabel("longer answer scored higher, share of pairs", "", 2),
    "longer_was_chosen": MetricLabel("longer answer was the chosen one, share of pairs", "", 2),
    "logp_chosen": MetricLabel("log-probability of a chosen answer", "", 1),
    "logp_rejected": MetricLabel("log-probability of a rejected answer", "", 1),
    "reward_good": MetricLabel("implied reward of a good answer", "", 3),
    "reward_bad": MetricLabel("implied reward of a bad answer", "", 3),
    "reward_chosen": MetricLabel("implied reward of a chosen answer", "", 3),
    "reward_rejected": MetricLabel("implied reward of a rejected answer", "", 3),
    "answer_tokens": MetricLabel("tokens of an answer", "", 1),
    "ended": MetricLabel("answers that end by themselves", "", 2),
    "repetition": MetricLabel("share of an answer said before", "", 3),
    "exact_match": MetricLabel("exact match", "higher", 3),
    "token_f1": MetricLabel("token F1", "higher", 3),
    "kl": MetricLabel("KL from the reference, nats an answer", "", 2),
}
_OWN = ("accuracy", "auc", "reward", "margin", "loss")
"""What a method is there for, the most telling first."""
_HEADLINES = {
    "accuracy": "Held-out accuracy",
    "auc": "Held-out AUC of good answers over bad",
    "reward": "Held-out reward",
    "margin": "Held-out margin",
    "loss": "Held-out loss",
}


def metric_label(name: str) -> MetricLabel:
    """Return what is known of a measure; of one that is not known, its name."""
    return MEASURES.get(name) or MetricLabel(name.replace("_", " "))


def own_metric_label(story: RunData) -> tuple[str, str, float, float] | None:
    """Return what a run's method is measured by: name, words, before and after; None if missing."""
    for name in _OWN:
        before, after = (at(side, "validation", name) for side in (story.before, story.after))
        if isinstance(before, int | float) and isinstance(after, int | float):
            return name, _HEADLINES[name], float(before), float(after)
    return None


def verdict(name: str, before: Any, after: Any) -> str:
    """Return better, worse or same; empty where it cannot be said."""
    better = metric_label(name).better
    if not better or not (_number(before) and _number(after)):
        return ""
    if abs(after - before) <= 0.001 * max(abs(before), 1e-9):
        return "same"
    return "better" if (after < before) == (better == "lower") else "worse"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
