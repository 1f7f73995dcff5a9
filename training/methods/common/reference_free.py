"""Preference methods without a reference model (ORPO, SimPO): shared forward pass and builder.

Both compare the mean log-probability per token of the chosen and the rejected answer, on TRL's
experimental trainers, which tokenize the rows that they are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from training.methods.common.per_row_loss import disable_dropout
from training.trainer.context import TrainerContext


@dataclass(frozen=True)
class MeanLogProbs:
    """Log-probabilities of a batch of pairs.

    Attributes:
        chosen: Mean log-probability per token of each chosen answer, [pairs].
        rejected: Mean log-probability per token of each rejected answer, [pairs].
        nll: Negative log-likelihood of the chosen sequences, prompts included, summed over tokens.
        nll_tokens: Number of those tokens.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    nll: torch.Tensor
    nll_tokens: torch.Tensor


def mean_log_probs(model: Any, inputs: dict[str, Any]) -> MeanLogProbs:
    """Return the log-probabilities of a batch of pairs.

    Args:
        model: Causal language model, wrapped or not.
        inputs: Batch of `PairCollator`: `input_ids`, `attention_mask` and `completion_mask`,
            [2 · pairs, sequence], the chosen answers first.
    """
    # Labels cover prompts too, since ORPO's likelihood is over complete chosen sequences.
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    outputs = model(input_ids=inputs["input_ids"], labels=labels, next_token_log_probs=True)
    log_probs = outputs.log_probs
    answer_mask = inputs["completion_mask"][:, 1:]
    # Prompt tuning puts virtual tokens in front of the sequence: keep the real ones.
    log_probs = log_probs[:, -answer_mask.shape[1] :]
    means = (log_probs * answer_mask).sum(1) / answer_mask.sum(1).clamp(min=1)
    chosen, rejected = means.chunk(2)
    chosen_log_probs, _ = log_probs.chunk(2)
    nll_tokens = (labels.chunk(2)[0][:, 1:] != -100).sum()
    return MeanLogProbs(chosen, rejected, -chosen_log_probs.sum(), nll_tokens)


class PretokenizedPairsMixin:
    """Mixin that disables the tokenization in TRL's CPO and ORPO trainers."""

    def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, Any]:
        """Return no further columns: the rows are tokenized already."""
        return {}


def build_reference_free(
    trainer: type[Any],
    config: type[Any],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
    **settings: Any,
) -> Any:
    """Return the trainer of a preference method without a reference.

    Args:
        trainer: Class of the trainer.
        config: Class of TRL's configuration.
        model: Model, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of tokenized pairs.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
        **settings: Further settings of the configuration.
    """
    disable_dropout(model)
    return trainer(
        setup=setup,
        model=model,
        args=config(
            **arguments,
            max_length=setup.job.data.max_length,
            disable_dropout=False,
            **settings,
        ),
        # TRL maps its tokenizer over the dataset in __init__, and training reads `setup.table`:
        # one row is enough.
        train_dataset=rows.select(range(1)),
        data_collator=setup.collate,
        processing_class=tokenizer,
    )
