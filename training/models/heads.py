"""Heads of a model: next-token prediction (a language model) or a score (a reward model)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from training.config.method_base import Head


@dataclass(frozen=True)
class HeadKind:
    """Transformers class and PEFT task of a kind of head.

    Attributes:
        kind: Transformers class that loads the model.
        task: PEFT task type.
        settings: Keyword arguments of `from_pretrained`.
    """

    kind: Any
    task: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_score(self) -> bool:
        """True if the model outputs one number per text."""
        return self.task == "SEQ_CLS"


HEADS: dict[Head, HeadKind] = {
    "language": HeadKind(AutoModelForCausalLM, "CAUSAL_LM"),
    "score": HeadKind(AutoModelForSequenceClassification, "SEQ_CLS", {"num_labels": 1}),
}
HEAD_OF_TASK = {head.task: head for head in HEADS.values()}


def task_of(model: PreTrainedModel) -> str:
    """Return the PEFT task type of a model, by which PEFT trains a new score head in full."""
    scores = type(model).__name__.endswith("ForSequenceClassification")
    return HEADS["score" if scores else "language"].task


def with_score_head(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model with the body of a language model and a new score head.

    The body is shared, not copied.
    """
    config = model.config
    config.num_labels = 1
    scoring: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    setattr(scoring, scoring.base_model_prefix, model.base_model)
    return scoring
