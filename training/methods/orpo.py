"""ORPO (Hong et al. 2024, arXiv:2403.07691) on TRL's trainer: likelihood plus odds ratio.

With odds(y) = p / (1 − p), where log p is the mean log-probability per token of answer y:

    loss = NLL(chosen) − β · log σ(log odds(y_w) − log odds(y_l))

The likelihood is a mean over the tokens of the chosen sequences, the odds ratio a mean over pairs.
Each is taken over the complete optimizer step, which is why this trainer has two divisors where
other preference methods have one.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from training.config.preference_methods import Orpo
from training.methods.common.fixed_rows import with_fixed_rows
from training.methods.common.reference_free import (
    PretokenizedPairsMixin,
    build_reference_free,
    mean_log_probs,
)
from training.trainer.context import TrainerContext
from training.trainer.exact_trainer import ExactTrainerMixin
from training.trainer.metrics import Sums, means


class OrpoTrainer(PretokenizedPairsMixin, ExactTrainerMixin, ORPOTrainer):
    """TRL's ORPO trainer with exact resume."""

    # The loss is divided by the tokens and pairs of the complete step.
    loss_is_scaled_for_ga = True

    def _get_num_items_in_batch(
        self, batch_samples: list[Any], device: torch.device
    ) -> tuple[int, int]:
        """Return the chosen tokens and the pairs of the step, over all processes."""
        tokens = pairs = 0
        for batch in batch_samples:
            chosen, _ = batch["attention_mask"].chunk(2)
            tokens += int(chosen[:, 1:].sum())
            pairs += batch["num_rows"]
        gathered = self.setup.control.all_gather((tokens, pairs))
        return max(1, sum(t for t, _ in gathered)), max(1, sum(p for _, p in gathered))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Return the contribution of a micro-batch to the step's loss.

        Args:
            model: Model, wrapped by its engine.
            inputs: Micro-batch of pairs.
            return_outputs: Must be False.
            num_items_in_batch: Chosen tokens and pairs of the step, over all processes.
        """
        assert not return_outputs and num_items_in_batch is not None
        tokens, pairs = num_items_in_batch
        sums = self._sums(model, inputs)
        for name, (total, weight) in sums.items():
            self.add_metric(name, total.detach(), weight)
        loss = sums["nll"][0] / tokens + sums["odds_loss"][0] / pairs
        # Times the number of processes, because data parallelism averages their gradients.
        return loss * self.setup.world.size

    def _sums(self, model: Any, inputs: dict[str, Any]) -> dict[str, tuple[torch.Tensor, Any]]:
        """Return sums over a micro-batch and their weights: tokens for `nll`, else pairs."""
        pairs = inputs["num_rows"]
        log_probs = mean_log_probs(with_fixed_rows(model, self.setup), inputs)
        weighted, chosen, rejected, _, _ = self.odds_ratio_loss(
            log_probs.chosen, log_probs.rejected
        )
        if not pairs:
            # A padding micro-batch: its odds are undefined, but every process needs a gradient.
            weighted, chosen, rejected = (
                0.0 * value for value in (log_probs.chosen, chosen, rejected)
            )
        return {
            "nll": (log_probs.nll, log_probs.nll_tokens),
            "odds_loss": (-weighted.sum(), pairs),
            "accuracy": ((chosen > rejected).float().sum(), pairs),
            "margin": ((chosen - rejected).sum(), pairs),
        }

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of a batch of held-out rows."""
        sums = self._sums(model, batch)
        return {name: (float(total), float(weight)) for name, (total, weight) in sums.items()}

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the loss, its two parts, the accuracy and the margin."""
        metrics = means(sums)
        loss = metrics["nll"] + metrics["odds_loss"]
        return {"loss": loss, **metrics, "rows": sums["odds_loss"][1]}


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> OrpoTrainer:
    """Return the trainer.

    Args:
        model: Model, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of tokenized pairs.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
    """
    method = setup.job.method
    assert isinstance(method, Orpo)
    trainer: OrpoTrainer = build_reference_free(
        *(OrpoTrainer, ORPOConfig, model, tokenizer, rows, arguments, setup),
        beta=method.beta,
    )
    return trainer
