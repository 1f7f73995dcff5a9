"""Direct preference optimization on TRL's trainer: chosen answers likelier, rejected ones less.

The reference is what training started from: the model with its adapter off where the adapter is
new and changes nothing yet, else a frozen copy; or, with `precompute`, what either made of every
row before the first step.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from training.config.preference_methods import Dpo
from training.methods.common.per_row_loss import (
    PerRowLossMixin,
    own_metrics,
    scoring_answers,
    switch_off_dropout,
)
from training.methods.common.reference_model import (
    check_same_at_start,
    drop_needless_copy,
    precomputed,
    second_model,
)
from training.trainer.context import TrainerContext

_OURS = {
    "accuracy": "rewards/accuracies",
    "margin": "rewards/margins",
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "logp_chosen": "logps/chosen",
    "logp_rejected": "logps/rejected",
}
"""What we call TRL's metrics."""
_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


class DpoTrainer(PerRowLossMixin, DPOTrainer):
    """TRL's DPO trainer, exact."""

    def _prepare_dataset(self, dataset: Any, *ignored: Any) -> Any:
        """Return the rows as they are: tokenized already."""
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *ignored: Any) -> Any:
        """Leave that for when the engine is made: see `prepare`."""
        return dataset

    def on_engine_ready(self, number: int) -> None:
        """Let the reference look at every row, where the job asks for it; see that it agrees."""
        # From here on what the reference makes of a row comes with the batch.
        self.precompute_ref_logps = True
        if self.setup.job.method.precompute:  # type: ignore[union-attr]  # Dpo's
            precomputed(self, number, _REFERENCE)
        if number == 0:
            check_same_at_start(self)

    def reference_logps(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        """Return the reference's log-probabilities of chosen and rejected answers, [B] each."""
        if _REFERENCE[0] in inputs:
            return tuple(inputs[name] for name in _REFERENCE)
        taken = {k: v for k, v in inputs.items() if k not in ("labels", "num_rows", "margin")}
        model = scoring_answers(self.ref_model or self.model)
        return tuple(self.compute_ref_log_probs(model, taken))

    def row_means(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Return the loss; rewards (beta times log-ratios), how far apart and how often right."""
        found = dict(zip(_REFERENCE, self.reference_logps(inputs), strict=True))
        taken = {k: v for k, v in inputs.items() if k not in ("labels", "margin")}
        with own_metrics(self) as theirs:
            loss = self._compute_loss(scoring_answers(model), taken | found, return_outputs=False)
        means: dict[str, float | torch.Tensor] = {o: theirs[name] for o, name in _OURS.items()}
        if self.state.global_step == 0:
            # The model is still its reference: every pair is a tie, and TRL counts those as wrong.
            means["accuracy"] = 0.5
        return loss, means


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> DpoTrainer:
    """Return the trainer."""
    method = setup.job.method
    assert isinstance(method, Dpo)
    switch_off_dropout(model)
    config = DPOConfig(
        **arguments,
        max_length=None,
        disable_dropout=False,
        beta=method.beta,
        loss_type=[method.loss],
        label_smoothing=method.label_smoothing,
        precompute_ref_log_probs=method.precompute,
        activation_offloading=False,
    )
    trainer = DpoTrainer(
        setup=setup,
        model=model,
        ref_model=None if method.precompute else second_model(setup),
        args=config,
        train_dataset=rows,
        data_collator=setup.collate,
        processing_class=tokenizer,
    )
    drop_needless_copy(trainer)
    return trainer
