"""Labels of metrics in reports: the words, which way is better, and the digits to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class MetricLabel:
    """Label of one metric of held-out rows.

    Attributes:
        words: Name in a report.
        better: Direction of improvement; empty if neither direction is better by itself.
        digits: Digits shown after the decimal point.
        headline: Words for it at the top of a report; empty for a metric that never stands there.
    """

    words: str
    better: Better = ""
    digits: int = 4
    headline: str = ""


Labels = Mapping[str, MetricLabel]

COMMON: Labels = {
    "loss": MetricLabel("loss", "lower", headline="Held-out loss"),
    "perplexity": MetricLabel("perplexity", "lower", 2),
    "exact_match": MetricLabel("exact match", "higher", 3),
    "token_f1": MetricLabel("token F1", "higher", 3),
}
"""Labels of the metrics that any method can have."""

PAIRS: Labels = {
    "accuracy": MetricLabel(
        "chosen above rejected, share of pairs", "higher", 3, "Held-out accuracy"
    ),
    "margin": MetricLabel("how far above", "higher", 3, "Held-out margin"),
    "calibration_error": MetricLabel("distance of certainty from accuracy", "lower", 3),
}
"""Labels of methods that compare a chosen answer with a rejected one."""

LOG_PROBS: Labels = {
    "logp_chosen": MetricLabel("log-probability of a chosen answer", "", 1),
    "logp_rejected": MetricLabel("log-probability of a rejected answer", "", 1),
    "reward_chosen": MetricLabel("implied reward of a chosen answer", "", 3),
    "reward_rejected": MetricLabel("implied reward of a rejected answer", "", 3),
}
"""Labels of methods that tune a language model on pairs."""

ROLLOUTS: Labels = {
    "reward": MetricLabel("reward of a sampled answer", "higher", 3, "Held-out reward"),
    "answer_tokens": MetricLabel("tokens of an answer", "", 1),
    "ended": MetricLabel("answers that end by themselves", "", 2),
    "repetition": MetricLabel("share of an answer said before", "", 3),
    "kl": MetricLabel("KL from the reference, nats an answer", "", 2),
}
"""Labels of methods that sample answers while training."""
