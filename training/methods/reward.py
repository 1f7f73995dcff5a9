"""A reward model: scores that are higher for the answers people preferred.

Bradley and Terry's model on pairs, with margins and centring where the job asks for them (Touvron
et al. 2023, arXiv:2307.09288; Eisenstein et al. 2023, arXiv:2312.09244), on TRL's trainer.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from training.config.preference_methods import RewardModeling
from training.methods.common.pair_metrics import pair_metrics, pair_sums
from training.methods.common.per_row_loss import (
    PerRowLossMixin,
    own_metrics,
    switch_off_dropout,
    unmasked,
)
from training.trainer.context import TrainerContext
from training.trainer.metrics import Sums


class RewardModelTrainer(PerRowLossMixin, RewardTrainer):
    """TRL's reward trainer, exact."""

    def _prepare_dataset(self, dataset: Any, *ignored: Any) -> Any:
        """Return the rows as they are: tokenized already."""
        return dataset

    def row_means(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Return the loss, how often the chosen answer scores higher, and by how much."""
        loss, found, _ = self._scored(model, inputs)
        return loss, found

    def _scored(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, Any, torch.Tensor]:
        taken = {k: v for k, v in inputs.items() if k not in ("labels", "completion_mask")}
        with own_metrics(self) as theirs:
            loss, outputs = RewardTrainer.compute_loss(
                self, unmasked(model), taken, return_outputs=True
            )
        found = {"accuracy": theirs["accuracy"], "margin": theirs["margin"]}
        found["mean_score"] = theirs["mean_reward"]
        return loss, found, outputs.logits.squeeze(-1)

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of a batch: loss, accuracy, margin, calibration, bias to length."""
        rows = batch.pop("num_rows")
        loss, found, scores = self._scored(model, batch)
        sums = {name: (float(mean) * rows, rows) for name, mean in {"loss": loss, **found}.items()}
        if not rows:
            return sums
        return sums | pair_sums(scores.double().cpu(), batch["completion_mask"].sum(1).cpu())

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return what the sums come to: see `calibration` for the last four."""
        plain = {name: value for name, value in sums.items() if "/" not in name}
        return super().aggregate(plain) | pair_metrics(sums)


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> RewardModelTrainer:
    """Return the trainer; `model` puts out one score for a text."""
    method = setup.job.method
    assert isinstance(method, RewardModeling)
    switch_off_dropout(model)
    config = RewardConfig(
        **arguments,
        max_length=None,
        disable_dropout=False,
        center_rewards_coefficient=method.center_rewards or None,
        activation_offloading=False,
    )
    return RewardModelTrainer(
        setup=setup,
        model=model,
        args=config,
        train_dataset=rows,
        data_collator=setup.collate,
        processing_class=tokenizer,
    )
