"""What a model puts out: the next token (a language model), or a score (a reward model)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from training.config.method_base import Head


@dataclass(frozen=True)
class HeadKind:
    """How a model with one kind of head is loaded and adapted.

    Attributes:
        kind: The Transformers class that loads it.
        task: What PEFT calls it.
        settings: Keywords for loading it.
    """

    kind: Any
    task: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_score(self) -> bool:
        """Whether it puts out one number for a text."""
        return self.task == "SEQ_CLS"


HEADS: dict[Head, HeadKind] = {
    "language": HeadKind(AutoModelForCausalLM, "CAUSAL_LM"),
    "score": HeadKind(AutoModelForSequenceClassification, "SEQ_CLS", {"num_labels": 1}),
}
HEAD_OF_TASK = {head.task: head for head in HEADS.values()}


def task_of(model: PreTrainedModel) -> str:
    """Return what PEFT calls the task of a loaded model; its new head is then trained whole."""
    scores = type(model).__name__.endswith("ForSequenceClassification")
    return HEADS["score" if scores else "language"].task


def with_score_head(model: PreTrainedModel) -> PreTrainedModel:
    """Return the body of a language model under a new head that scores.

    The body is shared, not copied.
    """
    config = model.config
    config.num_labels = 1
    scoring: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    setattr(scoring, scoring.base_model_prefix, model.base_model)
    return scoring
