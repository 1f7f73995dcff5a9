"""SimPO (Meng et al. 2024, arXiv:2405.14734) on TRL's CPO trainer: mean log-probabilities compared.

There is no reference: a margin keeps chosen answers ahead, and length counts for nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl.experimental.cpo import CPOConfig, CPOTrainer

from training.config.preference_methods import Simpo
from training.methods.common.log_probs import mean_log_probs, one_row
from training.methods.common.per_row_loss import PerRowLossMixin, switch_off_dropout
from training.trainer.context import TrainerContext


class SimpoTrainer(PerRowLossMixin, CPOTrainer):
    """TRL's CPO trainer with its SimPO loss, exact."""

    def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, Any]:
        """Return nothing to add: rows are tokenized already."""
        return {}

    def row_means(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Return the loss, and how often and how far chosen answers are likelier per token."""
        found = mean_log_probs(model, inputs)
        losses, chosen, rejected = self.cpo_loss(found.chosen, found.rejected)
        return losses.mean(), {
            "accuracy": (chosen > rejected).float().mean(),
            "margin": (chosen - rejected).mean(),
            "reward_chosen": chosen.mean(),
            "reward_rejected": rejected.mean(),
        }


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> SimpoTrainer:
    """Return the trainer."""
    method = setup.job.method
    assert isinstance(method, Simpo)
    switch_off_dropout(model)
    config = CPOConfig(
        **arguments,
        max_length=setup.job.data.max_length,
        disable_dropout=False,
        loss_type="simpo",
        beta=method.beta,
        simpo_gamma=method.gamma,
        cpo_alpha=0.0,
    )
    return SimpoTrainer(
        setup=setup,
        model=model,
        args=config,
        train_dataset=one_row(rows),
        data_collator=setup.collate,
        processing_class=tokenizer,
    )
