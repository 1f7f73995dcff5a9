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
    "token_accuracy": MetricLabel("token accuracy", "higher", 3),
    "exact_match": MetricLabel("exact match", "higher", 3),
    "token_f1": MetricLabel("token F1", "higher", 3),
}
"""Labels of the metrics that any method can have."""

PAIRS: Labels = {
    "accuracy": MetricLabel("accuracy on pairs", "higher", 3, "Held-out accuracy"),
    "margin": MetricLabel("margin of chosen over rejected", "higher", 3, "Held-out margin"),
    "calibration_error": MetricLabel("calibration error", "lower", 3),
}
"""Labels of methods that compare a chosen answer with a rejected one."""

LOG_PROBS: Labels = {
    "logp_chosen": MetricLabel("log-probability of a chosen answer", "", 1),
    "logp_rejected": MetricLabel("log-probability of a rejected answer", "", 1),
    "reward_chosen": MetricLabel("implicit reward of a chosen answer", "", 3),
    "reward_rejected": MetricLabel("implicit reward of a rejected answer", "", 3),
}
"""Labels of methods that tune a language model on pairs."""

ROLLOUTS: Labels = {
    "reward": MetricLabel("reward of a completion", "higher", 3, "Held-out reward"),
    "answer_tokens": MetricLabel("tokens per completion", "", 1),
    "ended": MetricLabel("completions that end with EOS", "", 2),
    "repetition": MetricLabel("repeated 4-grams in a completion", "", 3),
    "kl": MetricLabel("KL from the reference (nats per completion)", "", 2),
}
"""Labels of methods that sample answers while training."""
