"""ORPO (Hong et al. 2024, arXiv:2403.07691): likelihood and preference in one loss, no reference.

The likelihood is a mean over the tokens of the chosen sequences and the odds ratio one over pairs;
each is taken over the whole optimizer step.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from training.config.preference_methods import Orpo
from training.methods.common.log_probs import mean_log_probs, one_row
from training.methods.common.per_row_loss import switch_off_dropout
from training.trainer.context import TrainerContext
from training.trainer.exact_trainer import ExactTrainerMixin
from training.trainer.metrics import Sums, means


class OrpoTrainer(ExactTrainerMixin, ORPOTrainer):
    """TRL's ORPO trainer, exact."""

    loss_is_scaled_for_ga = True

    def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, Any]:
        """Return nothing to add: rows are tokenized already."""
        return {}

    def _get_num_items_in_batch(
        self, batch_samples: list[Any], device: torch.device
    ) -> tuple[int, int]:
        """Return the chosen tokens and the pairs of the step, over all processes."""
        tokens = pairs = 0
        for batch in batch_samples:
            chosen, _ = batch["attention_mask"].chunk(2)
            tokens += int(chosen[:, 1:].sum())
            pairs += batch["num_rows"]
        everyone = self.setup.control.all_gather((tokens, pairs))
        return max(1, sum(t for t, _ in everyone)), max(1, sum(p for _, p in everyone))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Return this micro-batch's part of the step's loss."""
        assert not return_outputs and num_items_in_batch is not None
        tokens, pairs = num_items_in_batch
        totals = self._totals(model, inputs)
        for name, (total, weight) in totals.items():
            self.add_metric(name, total.detach(), weight)
        share = totals["nll"][0] / tokens + totals["odds_loss"][0] / pairs
        return share * self.setup.world.size

    def _totals(self, model: Any, inputs: dict[str, Any]) -> dict[str, tuple[torch.Tensor, int]]:
        """Return sums over a micro-batch: of tokens for `nll`, of pairs for the others."""
        pairs = inputs["num_rows"]
        found = mean_log_probs(model, inputs)
        gains, chosen, rejected, _, _ = self.odds_ratio_loss(found.chosen, found.rejected)
        if not pairs:
            gains, chosen, rejected = (0.0 * value for value in (found.chosen, chosen, rejected))
        return {
            "nll": (found.nll, found.nll_tokens),
            "odds_loss": (-gains.sum(), pairs),
            "accuracy": ((chosen > rejected).float().sum(), pairs),
            "margin": ((chosen - rejected).sum(), pairs),
        }

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of a batch of held-out rows."""
        totals = self._totals(model, batch)
        return {name: (float(total), weight) for name, (total, weight) in totals.items()}

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the loss, its two parts, and how often and how far chosen answers are likelier."""
        found = means(sums)
        return {"loss": found["nll"] + found["odds_loss"], **found, "rows": sums["odds_loss"][1]}


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> OrpoTrainer:
    """Return the trainer."""
    method = setup.job.method
    assert isinstance(method, Orpo)
    switch_off_dropout(model)
    config = ORPOConfig(
        **arguments,
        max_length=setup.job.data.max_length,
        disable_dropout=False,
        beta=method.beta,
    )
    return OrpoTrainer(
        setup=setup,
        model=model,
        args=config,
        train_dataset=one_row(rows),
        data_collator=setup.collate,
        processing_class=tokenizer,
    )
