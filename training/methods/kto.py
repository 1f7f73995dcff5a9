"""KTO (Ethayarajh et al. 2024, arXiv:2402.01306) on TRL's trainer: good answers and bad, unpaired.

KTO weighs an answer against the KL divergence of the model from its reference, estimated on
prompts joined with other rows' answers. TRL estimates it anew from each micro-batch; here it is
one number per optimizer step, from all its rows, and so does not depend on how the step was cut.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl import KTOConfig, KTOTrainer

from training.config.preference_methods import Kto
from training.methods.common.auc import auc, auc_sums, is_auc_sum
from training.methods.common.per_row_loss import (
    PerRowLossMixin,
    own_metrics,
    scoring_answers,
    switch_off_dropout,
)
from training.methods.common.reference_model import (
    check_same_at_start,
    drop_needless_copy,
    second_model,
)
from training.trainer.context import TrainerContext
from training.trainer.metrics import Sums, means
from training.trainer.sample_order import PADDING_INDEX
from training.trainer.seed import preserve_rng_state

_MOST_HELD_OUT = 256
"""Held-out rows that the KL is estimated from."""


class KtoTrainer(PerRowLossMixin, KTOTrainer):
    """TRL's KTO trainer, exact."""

    _kl = 0.0
    _held_out_kl: tuple[int, float] = (-1, 0.0)

    def _prepare_dataset(self, dataset: Any, *ignored: Any) -> Any:
        """Return the rows as they are: tokenized already."""
        return dataset

    def on_engine_ready(self, number: int) -> None:
        """See that the reference agrees before the first step."""
        # From here on what the reference makes of a row comes with the batch.
        self.precompute_ref_logps = True
        if number == 0:
            check_same_at_start(self)

    def reference_logps(self, inputs: dict[str, Any]) -> tuple[torch.Tensor]:
        """Return the reference's log-probabilities of the answers, [B]."""
        logps, _ = self.compute_ref_log_probs(scoring_answers(self.ref_model or self.model), inputs)
        return (logps,)

    # --- the divergence ---------------------------------------------------------------------

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Return the step's micro-batches, having estimated the KL from all its rows."""
        found = super().get_batch_samples(epoch_iterator, num_batches, device)
        setup = self.setup
        rows = next(setup.order.steps(int(self.state.global_step)), [])
        self._kl = self._divergence(setup.table, [row for row in rows if row != PADDING_INDEX])
        return found

    def _divergence(self, table: Any, rows: Sequence[int]) -> float:
        """Return the KL in nats an answer, from prompts joined with the answer of the row before.

        Every process must call this with the same rows; each computes its part.
        """
        setup = self.setup
        world, size = setup.world, setup.micro_batch_size
        joined = list(zip(rows, [rows[-1], *rows[:-1]], strict=True)) if rows else []
        mine = joined[world.rank :: world.size]
        total, was_training = 0.0, self.model.training
        self.model.eval()
        # Everyone takes part in as many passes as the one with most: weights may be sharded.
        for first in range(0, -(-len(joined) // world.size), size):
            part = mine[first : first + size]
            found = [self._joined(table[a], table[b]) for a, b in part] or [
                setup.collate.padding_example()
            ]
            ratio = self._log_ratio(setup.collate(found))
            total += ratio if part else 0.0
        self.model.train(was_training)
        ratios = setup.control.all_gather((total, len(mine)))
        mean = sum(t for t, _ in ratios) / max(1, sum(n for _, n in ratios))
        return max(mean, 0.0)

    def _joined(self, asked: dict[str, Any], answered: dict[str, Any]) -> dict[str, Any]:
        """Return one row's prompt with another's answer."""
        start, other = _answer_start(asked), _answer_start(answered)
        ids = asked["input_ids"][:start] + answered["input_ids"][other:]
        labels = asked["labels"][:start] + answered["labels"][other:]
        most = self.setup.job.data.max_length
        return {**asked, "input_ids": ids[:most], "labels": labels[:most]}

    def _log_ratio(self, batch: dict[str, Any]) -> float:
        device = self.setup.world.device
        batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        inputs = {"input_ids": batch["input_ids"], "labels": batch["labels"]}
        with preserve_rng_state(), torch.no_grad(), self.compute_loss_context_manager():
            outputs = self.model_wrapped(**inputs, next_token_log_probs=True)
            (reference,) = self.reference_logps(batch)
        width = batch["input_ids"].shape[1] - 1
        return float((outputs.log_probs[:, -width:].sum(1) - reference).double().sum())

    # --- the loss ---------------------------------------------------------------------------

    def row_means(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, float | torch.Tensor]]:
        """Return the loss and the KL it was computed with."""
        loss, _, _ = self._weighed(model, inputs, self._kl)
        return loss, {"kl": self._kl}

    def _weighed(
        self, model: Any, inputs: dict[str, Any], kl: float
    ) -> tuple[torch.Tensor, dict[str, float], torch.Tensor]:
        """Return the loss, mean rewards of good and bad answers, and each answer's log-ratio, [B].

        A mean is left out where there are none of the kind.
        """
        (reference,) = self.reference_logps(inputs)
        scored = scoring_answers(model)
        nats: list[torch.Tensor] = []

        def remembered(**batch: Any) -> Any:
            found = scored(**batch)
            nats.append(found.log_probs.detach().sum(1) - reference)
            return found

        taken = {k: v for k, v in inputs.items() if k != "labels"}
        # The loss takes log-ratios less the KL: the same as a reference that much likelier.
        with own_metrics(self) as theirs:
            loss = self._compute_loss(
                remembered, {**taken, "ref_logps": reference + kl}, return_outputs=False
            )
        names = {"reward_good": "rewards/chosen", "reward_bad": "rewards/rejected"}
        back = self.beta * kl
        rewards = {ours: theirs[name] + back for ours, name in names.items() if name in theirs}
        return loss, rewards, nats[0]

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of a batch of held-out rows."""
        rows = batch.pop("num_rows")
        step = int(self.state.global_step)
        if self._held_out_kl[0] != step:
            table: Any = self.setup.validation
            # In no order of theirs: the row before may hold another answer to the same prompt.
            drawn = random.Random(0).sample(range(len(table)), min(len(table), _MOST_HELD_OUT))
            self._held_out_kl = (step, self._divergence(table, drawn))
        kl = self._held_out_kl[1]
        loss, rewards, nats = self._weighed(model, batch, kl)
        good = int(batch["label"].sum()) if rows else 0
        weights = {"reward_good": good, "reward_bad": rows - good}
        sums: Sums = {"loss": (float(loss) * rows, rows)}
        sums |= {name: (mean * weights[name], weights[name]) for name, mean in rewards.items()}
        found = auc_sums(nats, batch["label"]) if rows else {}
        return sums | {"kl": (kl * rows, rows)} | found

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the means, and how far and how often good answers' rewards are above bad ones'."""
        found = means({name: value for name, value in sums.items() if not is_auc_sum(name)})
        found |= auc(sums)
        if "reward_good" in found and "reward_bad" in found:
            found["margin"] = found["reward_good"] - found["reward_bad"]
        return {**found, "rows": float(sums["loss"][1])}


def _answer_start(row: dict[str, Any]) -> int:
    labels = row["labels"]
    return next(i for i, label in enumerate(labels) if label != -100)


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> KtoTrainer:
    """Return the trainer."""
    method = setup.job.method
    assert isinstance(method, Kto)
    switch_off_dropout(model)
    config = KTOConfig(
        **arguments,
        max_length=None,
        disable_dropout=False,
        beta=method.beta,
        desirable_weight=method.desirable_weight,
        undesirable_weight=method.undesirable_weight,
        # The one that leaves the KL to us: with the other, TRL pairs up the rows of a data set.
        loss_type="apo_zero_unpaired",
        activation_offloading=False,
    )
    trainer = KtoTrainer(
        setup=setup,
        model=model,
        ref_model=second_model(setup),
        args=config,
        train_dataset=rows,
        data_collator=setup.collate,
        processing_class=tokenizer,
    )
    trainer.loss_type = "kto"
    drop_needless_copy(trainer)
    return trainer
