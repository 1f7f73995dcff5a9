"""DPO (Rafailov et al. 2023, arXiv:2305.18290) on TRL's trainer: preferences without reward model.

With the log-ratio h(y) = log π(y) − log π_ref(y), y_w chosen and y_l rejected:

    sigmoid   −log σ(β · (h(y_w) − h(y_l)))
    ipo       (h(y_w) − h(y_l) − 1 / (2β))²      with mean log-ratios (arXiv:2310.12036)
    robust    the sigmoid loss, unbiased under flipped labels (arXiv:2403.00409)

The reference is what training starts from (`common/reference_model.py`). With `precompute`, its
log-probabilities of every row are computed before the first step, and it is released.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from training.config.preference_methods import Dpo
from training.methods.common.fixed_rows import with_fixed_rows
from training.methods.common.per_row_loss import (
    PerRowLossMixin,
    disable_dropout,
    local_metrics,
    log_probs_only,
)
from training.methods.common.precomputed_reference import precompute_reference_log_probs
from training.methods.common.reference_model import (
    check_reference_at_start,
    drop_redundant_adapter_copy,
    load_reference_model,
)
from training.trainer.context import TrainerContext

_TRL_METRICS = {
    "accuracy": "rewards/accuracies",
    "margin": "rewards/margins",
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "logp_chosen": "logps/chosen",
    "logp_rejected": "logps/rejected",
}
"""Names of TRL's metrics, by ours."""
_REFERENCE_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")


class DpoTrainer(PerRowLossMixin, DPOTrainer):
    """TRL's DPO trainer with exact resume and a mean over the pairs of the step."""

    def _precompute_ref_logps(self, dataset: Any, *ignored: Any) -> Any:
        """Return the dataset unchanged: `on_engine_ready` precomputes once the engine is ready."""
        return dataset

    def on_engine_ready(self, number: int) -> None:
        """Precompute the reference's log-probabilities, if asked for, and check the reference."""
        # From here on, TRL's loss takes them from the batch, where `micro_batch_means` puts them.
        self.precompute_ref_logps = True
        if self.setup.job.method.precompute:  # type: ignore[union-attr]  # Dpo's
            precompute_reference_log_probs(self, number, _REFERENCE_COLUMNS)
        if number == 0:
            check_reference_at_start(self)

    def reference_logps(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        """Return the reference's log-probabilities of chosen and rejected answers, [pairs] each."""
        if _REFERENCE_COLUMNS[0] in inputs:
            return tuple(inputs[name] for name in _REFERENCE_COLUMNS)
        trl_inputs = {k: v for k, v in inputs.items() if k not in ("labels", "num_rows", "margin")}
        model = log_probs_only(with_fixed_rows(self.ref_model or self.model, self.setup))
        return tuple(self.compute_ref_log_probs(model, trl_inputs))

    def micro_batch_means(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Return the loss, and the accuracy, margin and rewards (β times log-ratios)."""
        reference = dict(zip(_REFERENCE_COLUMNS, self.reference_logps(inputs), strict=True))
        trl_inputs = {k: v for k, v in inputs.items() if k not in ("labels", "margin")} | reference
        policy = log_probs_only(with_fixed_rows(model, self.setup))
        with local_metrics(self) as trl:
            loss = self._compute_loss(policy, trl_inputs, return_outputs=False)
        means: dict[str, float | torch.Tensor] = {o: trl[name] for o, name in _TRL_METRICS.items()}
        if self.state.global_step == 0:
            # The model equals its reference: every pair is a tie, which TRL counts as wrong.
            means["accuracy"] = 0.5
        return loss, means


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> DpoTrainer:
    """Return the trainer.

    Args:
        model: Model, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of tokenized pairs.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
    """
    method = setup.job.method
    assert isinstance(method, Dpo)
    disable_dropout(model)
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
        ref_model=None if method.precompute else load_reference_model(setup),
        args=config,
        train_dataset=rows,
        data_collator=setup.collate,
        processing_class=tokenizer,
    )
    drop_redundant_adapter_copy(trainer)
    return trainer
