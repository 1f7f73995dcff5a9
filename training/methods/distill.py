"""Distillation: learn from a teacher's token probabilities in addition to the labels.

The loss is `DistillationLoss` (`common/divergence.py`). The teacher computes its distributions in
every step, or its most likely tokens are read from the cache (`top_k`). In a share of the steps the
student may generate the answers itself (`on_policy`; GKD, Agarwal et al., arXiv:2306.13649).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl.models.utils import prepare_deepspeed, unwrap_model_for_generation

from training.config.distill import Distill
from training.data.storage.cache import Cache
from training.data.storage.table import RowTable
from training.methods.common.causal_lm import CausalLmTrainer, build_causal_lm
from training.methods.common.distillation_head import add_distillation_head
from training.methods.common.divergence import DistillationLoss, TopKTargets
from training.methods.common.logit_teacher import LogitTeacher, first_rows
from training.methods.common.on_policy import build_answer_batch, extract_prompts, pad_left
from training.methods.common.soft_target_cache import (
    COLUMN,
    SoftTargetCollator,
    TeacherFunction,
    cached_soft_targets,
)
from training.models.fused_log_probs import IGNORE
from training.models.teacher import load_teacher
from training.run_folder import RunFolder
from training.trainer.context import TrainerContext
from training.trainer.seed import preserve_rng_state


class DistillTrainer(CausalLmTrainer):
    """Causal LM trainer with soft targets in addition to the labels.

    Args:
        method: Section of the job.
        loss: Compares student and teacher.
        teacher: Computes soft targets in every step; None if the batches have cached ones.
        end_ids: Tokens that end an answer.
        more: Arguments of `CausalLmTrainer`.
    """

    def __init__(
        self,
        *,
        method: Distill,
        loss: DistillationLoss,
        teacher: LogitTeacher | None,
        end_ids: Sequence[int],
        **more: Any,
    ):
        super().__init__(**more)
        self.method = method
        self.loss = loss
        self.end_ids = end_ids
        add_distillation_head(self.model, loss, all_positions=self.setup.shapes is not None)
        self.teacher = teacher
        self.teacher_temperature: float | None = None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the weighted sum of both losses divided by the supervised tokens of the step.

        Args:
            model: Student, wrapped by its engine.
            inputs: Micro-batch with `input_ids` and `labels`, [batch, sequence], and cached soft
                targets if there is no teacher.
            return_outputs: Must be False.
            num_items_in_batch: Supervised tokens of the step over all processes.
        """
        assert not return_outputs, "the outputs are not available: the model returns losses"
        # The student's own answers are not examples to imitate: only the teacher's correction of
        # them counts.
        soft_weight = 1.0 if inputs.pop("on_policy", False) else self.loss.soft_weight
        ids, log_probs = inputs.pop("soft_ids", None), inputs.pop("soft_log_probs", None)
        targets = TopKTargets(log_probs, ids) if self.teacher is None else self.teacher(inputs)
        outputs = model(**inputs, soft_targets=targets, soft_weight=soft_weight)
        supervised = (inputs["labels"][:, 1:] != IGNORE).sum()
        self.add_metric("soft_loss", outputs.soft.detach(), supervised)
        self.add_metric("hard_loss", outputs.hard.detach(), supervised)
        if num_items_in_batch is None:
            num_items_in_batch = supervised
        # A padding micro-batch has no supervised token and a loss of 0: avoid 0 / 0.
        loss = outputs.total / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return loss * self.accelerator.num_processes if model.training else loss

    def on_engine_ready(self, number: int) -> None:
        """Shard the teacher like the student, and calibrate it."""
        if self.teacher is None:
            return
        if self.setup.job.sharding.zero == 3:
            self.teacher.model = prepare_deepspeed(self.teacher.model, self.accelerator)
        if self.method.calibrate and self.teacher_temperature is None:
            self.teacher.calibrate(first_rows(self.setup.table), self.setup)
            self.teacher_temperature = self.teacher.temperature

    def extra_state(self) -> dict[str, Any]:
        """Return the teacher's temperature, since a resumed stream begins with other rows."""
        return {"teacher_temperature": self.teacher_temperature}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the teacher's temperature."""
        self.teacher_temperature = state["teacher_temperature"]
        if self.teacher is not None and self.teacher_temperature is not None:
            self.teacher.temperature = self.teacher_temperature

    # --- on-policy steps --------------------------------------------------------------------

    def get_batch_samples(self, *arguments: Any) -> tuple[list[Any], Any]:
        """Return the micro-batches of a step; in on-policy steps with the student's answers."""
        batches, num_tokens = super().get_batch_samples(*arguments)
        if not self._is_on_policy_step():
            return batches, num_tokens
        with preserve_rng_state():
            # Seeded by the step, so that a resumed run samples the same answers.
            torch.manual_seed(self._random("answers", self.setup.world.rank).getrandbits(63))
            batches = [self._with_own_answers(batch) for batch in batches]
        return batches, self._get_num_items_in_batch(batches, arguments[-1])

    def _is_on_policy_step(self) -> bool:
        """Return True if the student answers in the coming step; the same on all processes."""
        return self._random("who").random() < self.method.on_policy

    def _random(self, *purpose: object) -> random.Random:
        return random.Random(f"{self.setup.job.train.seed} {self.state.global_step} {purpose}")

    def _with_own_answers(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with its answers replaced by sampled ones."""
        pad_id = self.processing_class.pad_token_id
        prompts = extract_prompts(batch)
        ids, mask = pad_left(prompts, pad_id)
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
                    eos_token_id=list(self.end_ids),
                    # Sharded weights are gathered in every decoding step by all processes, so a
                    # process whose answers have ended must keep decoding until the last one has.
                    synced_gpus=sharded,
                )
            model.train(was_training)
        answers = output[:, ids.shape[1] :].cpu()
        own = build_answer_batch(prompts, answers, self.end_ids, pad_id)
        return batch | own | {"on_policy": True}


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> DistillTrainer:
    """Return the trainer.

    Args:
        model: Student, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of tokenized rows; the models are compared at supervised tokens.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.

    Raises:
        ModelError: The teacher does not exist, or its vocabulary differs from the student's.
    """
    job, method = setup.job, setup.job.method
    assert isinstance(method, Distill)
    loss = DistillationLoss(method.divergence, method.temperature, method.soft_weight)

    def load() -> LogitTeacher:
        teacher = load_teacher(job, method, tokenizer, setup.world.device)
        return LogitTeacher(teacher, loss, all_positions=setup.shapes is not None)

    def load_calibrated() -> TeacherFunction:
        teacher = load()
        if method.calibrate:
            teacher.calibrate(first_rows(setup.table), setup)
        return teacher.supervised

    teacher = None
    if method.top_k is None:
        # Calibrated later, in `on_engine_ready`: a resumed run restores the temperature instead.
        teacher = load()
    else:
        assert isinstance(setup.table, RowTable), "top_k with a stream is refused with the job"
        cache = Cache(RunFolder(setup.folder).cache, fallback=setup.folder / "cache")
        vocabulary_size = int(model.config.get_text_config().vocab_size)
        targets = cached_soft_targets(
            *(job, setup.table, setup.collate, cache, load_calibrated, vocabulary_size),
            static_rows=None if setup.shapes is None else setup.micro_batch_size,
        )
        setup.table.add_column(COLUMN, targets)
        setup.collate = SoftTargetCollator(
            setup.collate, targets.top_k, all_positions=setup.shapes is not None
        )
    trainer: DistillTrainer = build_causal_lm(
        *(model, tokenizer, rows, arguments, setup, DistillTrainer),
        method=method,
        loss=loss,
        teacher=teacher,
        end_ids=setup.row_tokenizer.end_ids,
    )
    return trainer
