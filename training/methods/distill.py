"""Distillation: learn from a teacher's probabilities as well as from the labels.

The teacher is asked in every step, or its likeliest tokens were written to the cache once
(`top_k`). On a share of the steps the student may write the answers itself (`on_policy`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl.models.utils import prepare_deepspeed, unwrap_model_for_generation

from training.config.methods import Distill
from training.console import say
from training.data.storage.cache import Cache
from training.data.storage.table import RowTable
from training.methods.common.causal_lm import CausalLmTrainer, config_of
from training.methods.common.distillation_head import add_soft_head
from training.methods.common.divergence import DistillationLoss, TopKTargets
from training.methods.common.on_policy import padded_left, prompts_of, rows_of
from training.methods.common.soft_target_cache import COLUMN, WithSoftTargets, soft_targets
from training.methods.common.temperature_scaling import calibration, supervised
from training.models.fused_log_probs import IGNORE
from training.models.teacher import load_teacher
from training.run_folder import RunFolder
from training.trainer.context import TrainerContext
from training.trainer.seed import preserve_rng_state


class DistillTrainer(CausalLmTrainer):
    """Next-token training with soft targets beside the labels.

    Args:
        method: As in the job.
        loss: Compares the two models.
        teacher: Asked in every step; None where the batches bring what it said.
        ends: Tokens that end an answer.
        more: What TRL's trainer takes.
    """

    def __init__(
        self,
        *,
        method: Distill,
        loss: DistillationLoss,
        teacher: LogitTeacher | None,
        ends: Sequence[int],
        **more: Any,
    ):
        super().__init__(**more)
        self.method = method
        self.loss = loss
        self.ends = ends
        model = self.model
        add_soft_head(model.get_base_model() if hasattr(model, "peft_config") else model, loss)
        self.teacher = teacher
        self.calibrated: float | None = None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the weighted sum of both losses over the number of supervised tokens."""
        assert not return_outputs, "the loss is all that is asked for here"
        # What the student wrote itself is no example to follow, only a place to be corrected in.
        soft_weight = 1.0 if inputs.pop("own", False) else self.loss.soft_weight
        ids, log_probs = inputs.pop("soft_ids", None), inputs.pop("soft_log_probs", None)
        known = TopKTargets(log_probs, ids) if self.teacher is None else self.teacher(inputs)
        outputs = model(**inputs, soft_targets=known, soft_weight=soft_weight)
        supervised = (inputs["labels"][:, 1:] != IGNORE).sum()
        self.add_metric("soft_loss", outputs.soft.detach(), supervised)
        self.add_metric("hard_loss", outputs.hard.detach(), supervised)
        if num_items_in_batch is None:
            num_items_in_batch = supervised
        # At least one: a filler micro-batch has no supervised token and adds nothing.
        loss = outputs.total / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return loss * self.accelerator.num_processes if model.training else loss

    def on_engine_ready(self, number: int) -> None:
        """Shard the teacher where the student is, and see how sure it is."""
        if self.teacher is None:
            return
        if self.setup.job.sharding.zero == 3:
            self.teacher.model = prepare_deepspeed(self.teacher.model, self.accelerator)
        if self.method.calibrate and self.calibrated is None:
            self.teacher.calibrate(first_rows(self.setup.table), self.setup)
            self.calibrated = self.teacher.temperature

    def extra_state(self) -> dict[str, Any]:
        """Return the teacher's temperature: a stream is elsewhere when a run goes on."""
        return {"teacher_temperature": self.calibrated}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with the same."""
        self.calibrated = state["teacher_temperature"]
        if self.teacher is not None and self.calibrated is not None:
            self.teacher.temperature = self.calibrated

    # --- answers of its own -----------------------------------------------------------------

    def get_batch_samples(self, *arguments: Any) -> tuple[list[Any], Any]:
        """Return the micro-batches of a step; in some steps the student answers anew."""
        batches, number = super().get_batch_samples(*arguments)
        if not self._answers_itself():
            return batches, number
        with preserve_rng_state():
            # From the step alone, and so the same after a resume.
            torch.manual_seed(self._random("answers", self.setup.world.rank).getrandbits(63))
            batches = [self._answered(batch) for batch in batches]
        return batches, self._get_num_items_in_batch(batches, arguments[-1])

    def _answers_itself(self) -> bool:
        """Whether the student writes in the step to come: the same for all processes, always."""
        return self._random("who").random() < self.method.on_policy

    def _random(self, *purpose: object) -> random.Random:
        return random.Random(f"{self.setup.job.train.seed} {self.state.global_step} {purpose}")

    def _answered(self, batch: dict[str, Any]) -> dict[str, Any]:
        pad_id = self.processing_class.pad_token_id
        prompts = prompts_of(batch)
        ids, mask = padded_left(prompts, pad_id)
        device, sharded = self.setup.world.device, self.setup.job.sharding.zero == 3
        with unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model:
            was_training = model.training
            model.eval()
            with torch.no_grad(), self.accelerator.autocast():
                output = model.generate(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    max_new_tokens=self.method.answer_tokens,
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    use_cache=True,
                    pad_token_id=pad_id,
                    eos_token_id=list(self.ends),
                    synced_gpus=sharded,
                )
            model.train(was_training)
        answers = output[:, ids.shape[1] :].cpu()
        return batch | rows_of(prompts, answers, self.ends, pad_id) | {"own": True}


class LogitTeacher:
    """A language model that is asked what comes next.

    Args:
        model: Frozen, in eval mode.
        loss: Knows the temperature of the comparison.
    """

    def __init__(self, model: Any, loss: DistillationLoss):
        self.model = model
        self.loss = loss
        self.temperature = 1.0
        """What its logits are divided by to make it as sure as it is right."""

    def logits(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return its logits where a token is supervised, in the order of the rows."""
        device = next(self.model.parameters()).device
        mask = inputs["labels"][:, 1:] != IGNORE
        named = {k: inputs[k].to(device) for k in ("input_ids", "position_ids")}
        with torch.no_grad():
            found: torch.Tensor = self.model(**named, use_cache=False).logits
            return found[:, :-1][mask.to(device)]

    def __call__(self, inputs: dict[str, Any]) -> TopKTargets:
        """Return its distributions where a token is supervised."""
        return TopKTargets(self.loss.soften(self.logits(inputs) / self.temperature))

    def calibrate(self, rows: Iterable[dict[str, Any]], setup: TrainerContext) -> None:
        """Find the temperature at which it is as sure of the rows as it is right."""
        size = max(1, 2048 // setup.job.data.max_length)
        line = iter(rows)
        parts = iter(lambda: list(itertools.islice(line, size)), [])
        batches = (setup.collate(part) for part in parts)
        found = calibration(supervised(self.logits, batches, IGNORE))
        self.temperature = found.temperature
        say(
            f"teacher: its own loss on the rows is {found.loss:.3f} when its logits are divided by "
            f"{found.temperature:.3f}; a student that knows better learns more with less "
            f"method.soft_weight"
        )


def first_rows(table: Any) -> Iterable[dict[str, Any]]:
    """Return the rows a table begins with, without reading on in a stream."""
    if isinstance(table, RowTable):
        return (table[index] for index in range(len(table)))
    window: list[dict[str, Any]] = table.window()
    return window


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> DistillTrainer:
    """Return the trainer; the labels of `rows` say at which tokens the models are compared.

    Raises:
        ModelError: The teacher cannot be had, or does not fit the student.
    """
    job, method = setup.job, setup.job.method
    assert isinstance(method, Distill)
    loss = DistillationLoss(method.divergence, method.temperature, method.soft_weight)

    def load() -> LogitTeacher:
        return LogitTeacher(load_teacher(job, method, tokenizer, setup.world.device), loss)

    def load_calibrated() -> LogitTeacher:
        teacher = load()
        if method.calibrate:
            teacher.calibrate(first_rows(setup.table), setup)
        return teacher

    teacher = None
    if method.top_k is None:
        teacher = load()
    else:
        assert isinstance(setup.table, RowTable), "checked with the job"
        cache = Cache(RunFolder(setup.folder).cache, otherwise=setup.folder / "cache")
        words = int(model.config.get_text_config().vocab_size)
        found = soft_targets(job, method, setup.table, setup.collate, cache, load_calibrated, words)
        setup.table.add_column(COLUMN, found)
        setup.collate = WithSoftTargets(setup.collate, found.top_k)
    return DistillTrainer(
        method=method,
        loss=loss,
        teacher=teacher,
        ends=setup.row_tokenizer.end_ids,
        setup=setup,
        model=model,
        args=config_of(arguments),
        train_dataset=rows,
        data_collator=setup.collate,
        processing_class=tokenizer,
    )
