"""Reward model: a score for an answer, learned from pairs of answers.

The loss is the Bradley-Terry model's, with the annotated margin m if the rows have one (Touvron et
al. 2023, arXiv:2307.09288) and a centering term if the job asks for it (Eisenstein et al. 2023,
arXiv:2312.09244):

    loss = −log σ(s(y_w) − s(y_l) − m) + c · (s(y_w) + s(y_l))²

The mean over the pairs of a step is weighted: the pairs of a ranking count as one (Ouyang et al.
2022, arXiv:2203.02155).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from training.config.preference_methods import RewardModeling
from training.methods.common.fixed_rows import with_fixed_rows
from training.methods.common.pair_metrics import pair_metrics, pair_sums
from training.methods.common.per_row_loss import (
    PerRowLossMixin,
    disable_dropout,
    local_metrics,
    without_attention_mask,
)
from training.trainer.context import TrainerContext
from training.trainer.metrics import Sums


class RewardModelTrainer(PerRowLossMixin, RewardTrainer):
    """TRL's reward trainer with exact resume and a mean over the pairs of the step."""

    def batch_weight(self, batch: dict[str, Any]) -> float:
        """Return the weight of a micro-batch: a ranking's pairs count as one observation."""
        if "weight" not in batch:
            return super().batch_weight(batch)
        return float(batch["weight"].sum())

    def micro_batch_means(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Return the loss, and the accuracy, margin and mean score."""
        loss, metrics, _ = self._loss_and_scores(model, inputs)
        return loss, metrics

    def _loss_and_scores(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """Return the loss, the metrics, and the scores, [2 · pairs], chosen answers first."""
        model = with_fixed_rows(model, self.setup)
        if "weight" in inputs:
            return self._weighted_loss_and_scores(model, inputs)
        trl_inputs = {k: v for k, v in inputs.items() if k not in ("labels", "completion_mask")}
        with local_metrics(self) as trl:
            loss, outputs = RewardTrainer.compute_loss(
                self, without_attention_mask(model), trl_inputs, return_outputs=True
            )
        metrics = {"accuracy": trl["accuracy"], "margin": trl["margin"]}
        metrics["mean_score"] = trl["mean_reward"]
        return loss, metrics, outputs.logits.squeeze(-1)

    def _weighted_loss_and_scores(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """Return the same as weighted means over the pairs, which TRL's loss does not have."""
        outputs = without_attention_mask(model)(input_ids=inputs["input_ids"], use_cache=False)
        scores = outputs.logits.squeeze(-1)
        chosen, rejected = scores.chunk(2)
        share = inputs["weight"] / inputs["weight"].sum()
        margin = inputs.get("margin", 0.0)
        loss = -(share * torch.nn.functional.logsigmoid(chosen - rejected - margin)).sum()
        if self.args.center_rewards_coefficient is not None:
            centering = (share * (chosen + rejected) ** 2).sum()
            loss = loss + self.args.center_rewards_coefficient * centering
        with torch.no_grad():
            metrics = {
                "accuracy": float((share * (chosen > rejected)).sum()),
                "margin": float((share * (chosen - rejected)).sum()),
                "mean_score": float((share * (chosen + rejected)).sum() / 2),
            }
        return loss, metrics, scores

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of a batch: loss, accuracy, margin, calibration and length bias."""
        weight = self.batch_weight(batch)
        rows = batch.pop("num_rows")
        loss, metrics, scores = self._loss_and_scores(model, batch)
        every = {"loss": loss, **metrics}
        sums = {name: (float(mean) * weight, weight) for name, mean in every.items()}
        sums["pairs/all"] = (rows, rows)
        if not rows:
            return sums
        return sums | pair_sums(scores.cpu().double(), batch["completion_mask"].sum(1).cpu())

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the means and the metrics of `pair_metrics`."""
        plain = {name: value for name, value in sums.items() if "/" not in name}
        rows = {"rows": float(sums["pairs/all"][1])}
        return super().aggregate(plain) | rows | pair_metrics(sums)


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> RewardModelTrainer:
    """Return the trainer.

    Args:
        model: Sequence classification model with one output, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of tokenized pairs.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
    """
    method = setup.job.method
    assert isinstance(method, RewardModeling)
    disable_dropout(model)
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
