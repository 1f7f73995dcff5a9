"""What every trainer here gains over its Transformers parent: exactness.

A method mixes `ExactLoop` into its TRL or Transformers trainer and inherits
- the order of rows, fixed by the seed alone (`order.py`), and a record of the rows each step saw;
- one agreement of all processes per step: what happened, whether to save, evaluate, or stop;
- checkpoints written whole or not at all, by steps, epochs or minutes, and when told to stop;
- watchers (guards, progress, tracking) that see each step's true numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, TrainerCallback

from training.step_metrics import StepMetrics
from training.trainer.batches import CollatedBatch, RowDataset
from training.trainer.compile import compiled_step
from training.trainer.context import TrainerContext
from training.trainer.lr_groups import LrMultipliers
from training.trainer.metrics import NextTokenMetric, Sums, add_sums, means
from training.trainer.resumable import ResumableTrainerMixin
from training.trainer.sample_order import MicroBatchSampler
from training.trainer.step_hooks import get_step_hook
from training.trainer.triggers import IntervalTrigger

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class _StepState:
    """What this process saw of the step under way."""

    losses: list[torch.Tensor] = field(default_factory=list)
    loss: float = 0.0
    tokens: int = 0
    supervised: int = 0
    ids: list[str] = field(default_factory=list)
    noted: list[tuple[str, Any, Any]] = field(default_factory=list)
    sums: Sums = field(default_factory=dict)
    asked_to_stop: str | None = None


class ExactTrainerMixin(ResumableTrainerMixin, NextTokenMetric):
    """Mix into a Transformers trainer, before it in the list of parents.

    A trainer whose rows are not measured by the loss of their next token says how they are, in
    `measure_batch` and `conclude` (see `measure.Measure`).
    """

    def __init__(self, *, setup: TrainerContext, **trainer_arguments: Any):
        self.setup = setup
        self.extra: dict[str, float] = {}
        self._under_way = _StepState()
        self._steps_per_epoch = setup.order.steps_per_epoch
        self._save_due = IntervalTrigger(setup.job.checkpoint.every, self._steps_per_epoch)
        self._evaluate_due = IntervalTrigger(setup.job.evaluate.every, self._steps_per_epoch)
        super().__init__(**trainer_arguments)
        self._learn_in_one_precision()
        self.step_hook = get_step_hook(self.model)
        if self.step_hook:
            self.step_hook.on_train_begin(setup.order.max_steps)
        names = [name for name, _ in self.model.named_parameters()]
        self.lr_multipliers = self.make_lr_multipliers(names)
        self.remove_callback(PrinterCallback)
        self.add_callback(_StepEndCallback(self))

    def _learn_in_one_precision(self) -> None:
        """Keep what learns in fp32, or in the job's precision beside DeepSpeed's own fp32 copy.

        A bf16 weight has 8 bits of mantissa: steps smaller than 1/256 of it are lost in rounding.
        Under DeepSpeed nothing is cast on the way, so that a module trained in full must hold what
        reaches it; TRL makes all of it bf16 on a 4-bit base, and under ZeRO 3 PEFT leaves it mixed.
        """
        sharded = self.is_deepspeed_enabled
        dtype = _DTYPES[self.setup.job.precision] if sharded else torch.float32
        for parameter in self.model.parameters():
            if not parameter.requires_grad or not parameter.is_floating_point():
                continue
            # What is cut up by now was given the engine's precision then.
            if not hasattr(parameter, "ds_id"):
                parameter.data = parameter.data.to(dtype)

    # --- rows -------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this process's micro-batches for the whole run, in order."""
        setup = self.setup
        sampler = MicroBatchSampler(
            setup.order,
            rank=setup.world.rank,
            world_size=setup.world.size,
            micro_batch_size=setup.micro_batch_size,
            lengths=setup.lengths,
        )
        return DataLoader(
            self.train_rows,
            batch_sampler=sampler,
            collate_fn=self.batch_collator,
            pin_memory=setup.world.accelerated,
        )

    @property
    def train_rows(self) -> Dataset[dict[str, Any]]:
        """The rows to train on, and the one that fills up a batch."""
        return RowDataset(self.setup.table, self.setup.collate.padding_example())

    @property
    def batch_collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """What makes a micro-batch of rows, with their ids and the count of their tokens."""
        return CollatedBatch(self.setup.collate)

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        """Take one micro-batch forward and backward, noting what it held."""
        step = self._under_way
        step.ids += inputs.pop("row_ids")
        tokens = inputs.pop("num_tokens")
        if "labels" in inputs:
            self.count_tokens(tokens, int((inputs["labels"][..., 1:] != -100).sum()))
        with compiled_step(self.setup.job.train.compile):
            loss: torch.Tensor = super().training_step(model, inputs, *rest)
        if self.step_hook and not step.losses:
            self.extra |= self.step_hook.add_gradients()
        step.losses.append(loss)
        return loss

    def count_tokens(self, tokens: int, supervised: int) -> None:
        """Add to the tokens this step consumed, and to those it learns from."""
        self._under_way.tokens += tokens
        self._under_way.supervised += supervised

    def add_metric(self, name: str, total: Any, weight: Any) -> None:
        """Add to what the step under way is logged with: a mean over its weights.

        Args:
            name: The metric's.
            total: Summed over the rows or tokens of a micro-batch; a number or a tensor.
            weight: How many they were.
        """
        self._under_way.noted.append((name, total, weight))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: utilisation is computed once per step, from tokens, by the progress watcher."""
        return 0

    # --- the optimizer ----------------------------------------------------------------------

    def make_lr_multipliers(self, names: list[str]) -> LrMultipliers:
        """Return which of these parameters learns at which rate."""
        return LrMultipliers(self.setup.job, names, self.setup.order.max_steps)

    def create_optimizer(self, *arguments: Any, **more: Any) -> torch.optim.Optimizer:
        """Return the trainer's optimizer, its groups divided where rates differ."""
        made_before = self.optimizer is not None
        optimizer = super().create_optimizer(*arguments, **more)
        if not made_before and not self.lr_multipliers.uniform:
            self.lr_multipliers.split(optimizer, self.model)
        return optimizer

    def create_scheduler(self, *arguments: Any, **more: Any) -> Any:
        """Return the trainer's scheduler, which holds back what is to learn later."""
        made_before = self.lr_scheduler is not None
        scheduler = super().create_scheduler(*arguments, **more)
        if not made_before and not self.lr_multipliers.uniform:
            self.lr_multipliers.delay_groups(scheduler)
        return scheduler

    # --- the end of a step ------------------------------------------------------------------

    def close_step(self, state: Any, control: Any) -> None:
        """Agree with the other processes on what this step was and what comes next."""
        setup, step, number = self.setup, self._under_way, int(state.global_step)
        step.asked_to_stop = setup.stop_signal.received
        # Read here, once per step: reading each micro-batch would make a device wait each time.
        step.loss, step.losses = float(sum(float(loss) for loss in step.losses)), []
        step.sums = add_sums([{name: (float(t), float(w))} for name, t, w in step.noted])
        step.noted = []
        everyone: list[tuple[_StepState, bool, bool]] = setup.control.all_gather(
            (step, self._save_due.due(number), self._evaluate_due.due(number))
        )
        facts = self._facts(number, [mine for mine, _, _ in everyone])
        self._under_way = _StepState()
        for watcher in setup.callbacks:
            watcher.on_step(facts, self.model)
        # The first process's clock decides; the others follow.
        _, save, evaluate = everyone[0]
        last = number >= setup.order.max_steps
        asked = next((mine.asked_to_stop for mine, _, _ in everyone if mine.asked_to_stop), None)
        if asked:
            self.interrupted = asked
            control.should_training_stop = True
        elif evaluate and setup.evaluate:
            self.measure(number)
            control.should_training_stop |= self.has_stalled
        control.should_save = save or last or bool(control.should_training_stop)
        self._clock = time.monotonic()

    def _facts(self, number: int, everyone: list[_StepState]) -> StepMetrics:
        norm = self._last_grad_norm
        facts = StepMetrics(
            step=number,
            epoch=self.setup.order.epoch_at(number),
            loss=sum(mine.loss for mine in everyone) / len(everyone),
            grad_norm=None if norm is None else float(norm),
            learning_rate=self._last_learning_rate,
            tokens=sum(mine.tokens for mine in everyone),
            supervised_tokens=sum(mine.supervised for mine in everyone),
            row_ids=tuple(row for mine in everyone for row in mine.ids),
            seconds=time.monotonic() - self._clock,
            extra=means(add_sums([mine.sums for mine in everyone])) | self.extra,
        )
        self.extra = {}
        return facts

    _clock = 0.0
    _last_grad_norm: Any = None
    _last_learning_rate = 0.0

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        self._last_grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._last_learning_rate = float(self._get_learning_rate())
        return self._last_grad_norm

    # --- evaluation -------------------------------------------------------------------------

    def measure(self, number: int) -> None:
        """Take the held-out loss after step `number`."""
        assert self.setup.evaluate is not None
        metrics = self.setup.evaluate(self.model, number)
        self.evaluated_at = number
        self._evaluate_due.done()
        stopping = self.setup.job.train.early_stopping
        if metrics["loss"] < self.best_loss - (stopping.threshold if stopping else 0.0):
            self.best_loss, self.bad_evaluations = metrics["loss"], 0
        else:
            self.bad_evaluations += 1
        for watcher in self.setup.callbacks:
            watcher.on_evaluate(number, metrics)

    @property
    def trained_model(self) -> Any:
        """The model that is saved in the end: all that is trained, unless a method trains more."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def on_engine_ready(self, number: int) -> None:
        """Do what comes after the engine is made and before the first look at the model.

        Args:
            number: Steps done; training begins where it is 0, and else goes on.
        """

    def begin(self, state: Any) -> None:
        """Tell the watchers, and make up for an evaluation that a stop had cut off."""
        number = int(state.global_step)
        self.on_engine_ready(number)
        for watcher in self.setup.callbacks:
            watcher.on_start(self.model, number)
        if (
            self.setup.evaluate
            and number
            and self.evaluated_at < number
            and self._evaluate_due.due(number)
        ):
            self.measure(number)
        self._clock = time.monotonic()


class _StepEndCallback(TrainerCallback):
    """Calls back into the loop, where Transformers calls its callbacks."""

    def __init__(self, loop: ExactTrainerMixin):
        self.loop = loop

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.loop.begin(state)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.loop.step_hook:
            self.loop.extra |= self.loop.step_hook.on_optimizer_step(int(state.global_step) + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.loop.close_step(state, control)
