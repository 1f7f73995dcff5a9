"""KTO (Ethayarajh et al. 2024, arXiv:2402.01306) on TRL's trainer: unpaired good and bad answers.

With the log-ratio h(y) = log π(y) − log π_ref(y) and z, an estimate of KL(π ‖ π_ref):

    good answers   λ_D · (1 − σ(β · (h(y) − z)))
    bad answers    λ_U · (1 − σ(β · (z − h(y))))

z is estimated from prompts that are combined with the answers of other rows. TRL estimates it from
each micro-batch; here it is one number per optimizer step, estimated from all rows of the step, so
that it does not depend on the micro-batches.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl import KTOConfig, KTOTrainer

from training.config.preference_methods import Kto
from training.errors import DataError
from training.methods.common.auc import auc, auc_sums, is_auc_sum
from training.methods.common.fixed_rows import with_fixed_rows
from training.methods.common.per_row_loss import (
    PerRowLossMixin,
    disable_dropout,
    local_metrics,
    log_probs_only,
)
from training.methods.common.reference_model import (
    check_reference_at_start,
    drop_redundant_adapter_copy,
    load_reference_model,
)
from training.trainer.context import TrainerContext
from training.trainer.metrics import Sums, means
from training.trainer.sample_order import PADDING_INDEX
from training.trainer.seed import preserve_rng_state

_MAX_HELD_OUT = 256
"""Held-out rows from which the KL is estimated."""


class KtoTrainer(PerRowLossMixin, KTOTrainer):
    """TRL's KTO trainer with exact resume and one KL estimate per step."""

    _kl = 0.0
    _held_out_kl: tuple[int, float] = (-1, 0.0)
    """Step and estimate of the latest evaluation."""

    def on_engine_ready(self, number: int) -> None:
        """Check the reference before the first step."""
        # From here on, TRL's loss takes the reference's log-probabilities from the batch.
        self.precompute_ref_logps = True
        if number == 0:
            check_reference_at_start(self)

    def reference_logps(self, inputs: dict[str, Any]) -> tuple[torch.Tensor]:
        """Return the reference's log-probabilities of the answers, [rows]."""
        model = with_fixed_rows(self.ref_model or self.model, self.setup)
        logps, _ = self.compute_ref_log_probs(log_probs_only(model), inputs)
        return (logps,)

    # --- the divergence ---------------------------------------------------------------------

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Return the step's micro-batches, after estimating the KL from all rows of the step.

        Args:
            epoch_iterator: Micro-batches.
            num_batches: Micro-batches of the step.
            device: Device of the counts.
        """
        samples = super().get_batch_samples(epoch_iterator, num_batches, device)
        setup = self.setup
        rows = next(setup.order.steps(int(self.state.global_step)), [])
        self._kl = self._estimate_kl(setup.table, [row for row in rows if row != PADDING_INDEX])
        return samples

    def _estimate_kl(self, table: Any, rows: Sequence[int]) -> float:
        """Return the KL estimate in nats per answer, at least 0.

        Each prompt is combined with the answer of the row before it. Every process must call this
        with the same rows; each computes its share.
        """
        setup = self.setup
        world, size = setup.world, setup.micro_batch_size
        mismatched = _mismatched(rows, len(table))
        mine = mismatched[world.rank :: world.size]
        total, was_training = 0.0, self.model.training
        self.model.eval()
        # All processes run as many forward passes as the one with the most rows: under ZeRO 3, a
        # pass gathers weights, which takes all processes.
        for first in range(0, -(-len(mismatched) // world.size), size):
            part = mine[first : first + size]
            combined = [self._combine(table[a], table[b]) for a, b in part]
            ratio = self._summed_log_ratio(
                setup.collate(combined or [setup.collate.padding_example()])
            )
            total += ratio if part else 0.0
        self.model.train(was_training)
        sums = setup.control.all_gather((total, len(mine)))
        mean = sum(t for t, _ in sums) / max(1, sum(n for _, n in sums))
        return max(mean, 0.0)

    def _combine(self, prompt_row: dict[str, Any], answer_row: dict[str, Any]) -> dict[str, Any]:
        """Return the prompt of one row with the answer of another, truncated to the limit."""
        prompt_end, answer_start = _answer_start(prompt_row), _answer_start(answer_row)
        ids = prompt_row["input_ids"][:prompt_end] + answer_row["input_ids"][answer_start:]
        labels = prompt_row["labels"][:prompt_end] + answer_row["labels"][answer_start:]
        limit = self.setup.job.data.max_length
        return {**prompt_row, "input_ids": ids[:limit], "labels": labels[:limit]}

    def _summed_log_ratio(self, batch: dict[str, Any]) -> float:
        """Return the sum of the log-ratios of a batch's answers."""
        device = self.setup.world.device
        batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        inputs = {"input_ids": batch["input_ids"], "labels": batch["labels"]}
        with preserve_rng_state(), torch.no_grad(), self.compute_loss_context_manager():
            model = with_fixed_rows(self.model_wrapped, self.setup)
            outputs = model(**inputs, next_token_log_probs=True)
            (reference,) = self.reference_logps(batch)
        # Prompt tuning puts virtual tokens in front of the sequence: keep the real ones.
        width = batch["input_ids"].shape[1] - 1
        return float((outputs.log_probs[:, -width:].sum(1) - reference).cpu().double().sum())

    # --- the loss ---------------------------------------------------------------------------

    def micro_batch_means(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Return the loss and the KL estimate that it was computed with."""
        loss, _, _ = self._loss(model, inputs, self._kl)
        return loss, {"kl": self._kl}

    def _loss(
        self, model: Any, inputs: dict[str, Any], kl: float
    ) -> tuple[torch.Tensor, dict[str, float], torch.Tensor]:
        """Return the loss, the mean rewards of good and bad answers, and the log-ratios, [rows].

        A mean reward is omitted if there are no answers of its kind.
        """
        (reference,) = self.reference_logps(inputs)
        log_probs = log_probs_only(with_fixed_rows(model, self.setup))
        log_ratios: list[torch.Tensor] = []

        def recording(**batch: Any) -> Any:
            outputs = log_probs(**batch)
            log_ratios.append(outputs.log_probs.detach().sum(1) - reference)
            return outputs

        trl_inputs = {k: v for k, v in inputs.items() if k != "labels"}
        # TRL's own KL estimate is disabled (see `build`), and its loss uses 0 in its place. Adding
        # z to the reference's log-probabilities turns every log-ratio h(y) into h(y) − z.
        with local_metrics(self) as trl:
            loss = self._compute_loss(
                recording, {**trl_inputs, "ref_logps": reference + kl}, return_outputs=False
            )
        names = {"reward_good": "rewards/chosen", "reward_bad": "rewards/rejected"}
        # Undo the shift in the logged rewards.
        shift = self.beta * kl
        rewards = {ours: trl[name] + shift for ours, name in names.items() if name in trl}
        return loss, rewards, log_ratios[0]

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of a batch of held-out rows."""
        rows = batch.pop("num_rows")
        step = int(self.state.global_step)
        if self._held_out_kl[0] != step:
            table: Any = self.setup.validation
            # Shuffled, because neighbors in the data may be answers to the same prompt.
            drawn = random.Random(0).sample(range(len(table)), min(len(table), _MAX_HELD_OUT))
            self._held_out_kl = (step, self._estimate_kl(table, drawn))
        kl = self._held_out_kl[1]
        loss, rewards, log_ratios = self._loss(model, batch, kl)
        good = int(batch["label"].sum()) if rows else 0
        weights = {"reward_good": good, "reward_bad": rows - good}
        sums: Sums = {"loss": (float(loss) * rows, rows)}
        sums |= {name: (mean * weights[name], weights[name]) for name, mean in rewards.items()}
        auc_counts = auc_sums(log_ratios, batch["label"]) if rows else {}
        return sums | {"kl": (kl * rows, rows)} | auc_counts

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the means, the AUC, and the margin between good and bad answers' rewards."""
        metrics = means({name: value for name, value in sums.items() if not is_auc_sum(name)})
        metrics |= auc(sums)
        if "reward_good" in metrics and "reward_bad" in metrics:
            metrics["margin"] = metrics["reward_good"] - metrics["reward_bad"]
        return {**metrics, "rows": float(sums["loss"][1])}


def _mismatched(rows: Sequence[int], table_size: int) -> list[tuple[int, int]]:
    """Return each row with another one, whose answer is combined with its prompt.

    The last step of an epoch may have a single row, which gets the next row of the table.

    Raises:
        DataError: There is only one row.
    """
    if len(rows) == 1:
        if table_size < 2:
            raise DataError(
                "kto needs at least 2 rows on each side of the split: its KL term combines a "
                "prompt with the answer of another row. Add rows, or validation: none"
            )
        return [(rows[0], (rows[0] + 1) % table_size)]
    return list(zip(rows, [rows[-1], *rows[:-1]], strict=True)) if rows else []


def _answer_start(row: dict[str, Any]) -> int:
    return next(i for i, label in enumerate(row["labels"]) if label != -100)


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> KtoTrainer:
    """Return the trainer.

    Args:
        model: Model, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of tokenized answers.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
    """
    method = setup.job.method
    assert isinstance(method, Kto)
    disable_dropout(model)
    config = KTOConfig(
        **arguments,
        max_length=None,
        disable_dropout=False,
        beta=method.beta,
        desirable_weight=method.desirable_weight,
        undesirable_weight=method.undesirable_weight,
        # During construction only: with "kto", TRL would add mismatched pairs to the dataset for
        # its own KL estimate.
        loss_type="apo_zero_unpaired",
        activation_offloading=False,
    )
    trainer = KtoTrainer(
        setup=setup,
        model=model,
        ref_model=load_reference_model(setup),
        args=config,
        train_dataset=rows,
        data_collator=setup.collate,
        processing_class=tokenizer,
    )
    trainer.loss_type = "kto"
    drop_redundant_adapter_copy(trainer)
    return trainer
