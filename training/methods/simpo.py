"""SimPO (Meng et al. 2024, arXiv:2405.14734) on TRL's CPO trainer: no reference, length-normalized.

With the mean log-probability per token of each answer, y_w chosen and y_l rejected:

    loss = −log σ(β · (mean log π(y_w) − mean log π(y_l)) − γ)

The margin γ takes the place of a reference, and the mean removes the reward for length.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl.experimental.cpo import CPOConfig, CPOTrainer

from training.config.preference_methods import Simpo
from training.methods.common.fixed_rows import with_fixed_rows
from training.methods.common.per_row_loss import PerRowLossMixin
from training.methods.common.reference_free import (
    PretokenizedPairsMixin,
    build_reference_free,
    mean_log_probs,
)
from training.trainer.context import TrainerContext


class SimpoTrainer(PretokenizedPairsMixin, PerRowLossMixin, CPOTrainer):
    """TRL's CPO trainer with the SimPO loss and exact resume."""

    def micro_batch_means(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Return the loss, the accuracy, the margin and the rewards of a micro-batch."""
        log_probs = mean_log_probs(with_fixed_rows(model, self.setup), inputs)
        losses, chosen, rejected = self.cpo_loss(log_probs.chosen, log_probs.rejected)
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
    """Return the trainer.

    Args:
        model: Model, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of tokenized pairs.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
    """
    method = setup.job.method
    assert isinstance(method, Simpo)
    trainer: SimpoTrainer = build_reference_free(
        *(SimpoTrainer, CPOConfig, model, tokenizer, rows, arguments, setup),
        loss_type="simpo",
        beta=method.beta,
        simpo_gamma=method.gamma,
        cpo_alpha=0.0,
    )
    return trainer
