"""Trainer mixin that makes a Transformers trainer exactly resumable.

A method mixes `ExactTrainerMixin` into its TRL or Transformers trainer and inherits
- a sample order that depends on the seed alone (`sample_order.py`), and each step's row ids;
- one agreement of all processes per step: its metrics, and whether to save, evaluate or stop;
- atomic checkpoints every N steps, epochs or minutes, and after a stop signal;
- callbacks (guards, progress, tracking) that receive metrics reduced over all processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, TrainerCallback

from training.branching import STOP_STEP_VARIABLE
from training.expert_load import ExpertCounts, add_counts
from training.step_metrics import StepMetrics
from training.trainer.balance_loss import (
    BalanceLoss,
    balance_coefficient,
    own_router_settings,
    token_mask,
)
from training.trainer.batches import CollatedBatch, RowDataset, to_device
from training.trainer.compile import compiled_step
from training.trainer.context import TrainerContext
from training.trainer.lr_groups import LrMultipliers
from training.trainer.metrics import NextTokenMetric, Sums, add_sums, means, read_numbers
from training.trainer.resumable import ResumableTrainerMixin
from training.trainer.router_recorder import RouterRecorder, expert_bodies
from training.trainer.sample_order import MicroBatchSampler
from training.trainer.step_hooks import get_step_hook
from training.trainer.triggers import IntervalTrigger

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class _StepState:
    """Measurements of one process during the current step."""

    losses: list[torch.Tensor] = field(default_factory=list)
    loss: float = 0.0
    tokens: int = 0
    supervised: int = 0
    ids: list[str] = field(default_factory=list)
    metrics: list[tuple[str, Any, Any]] = field(default_factory=list)
    sums: Sums = field(default_factory=dict)
    experts: list[ExpertCounts] = field(default_factory=list)
    stop_signal: str | None = None

    def read_numbers(self) -> None:
        """Read losses and metrics from the device, once per step: each read makes the host wait."""
        names = [name for name, _, _ in self.metrics]
        pairs = [number for _, *pair in self.metrics for number in pair]
        numbers = read_numbers([*self.losses, *pairs])
        count = len(self.losses)
        self.loss = float(sum(numbers[:count]))
        totals, weights = numbers[count::2], numbers[count + 1 :: 2]
        every = zip(names, totals, weights, strict=True)
        self.sums = add_sums([{name: (total, weight)} for name, total, weight in every])
        self.losses, self.metrics = [], []


class ExactTrainerMixin(ResumableTrainerMixin, NextTokenMetric):
    """Mixin that precedes a Transformers trainer in a list of base classes.

    A trainer whose held-out rows are not measured by the next-token loss overrides `measure_batch`
    and `aggregate` (see `metrics.HeldOutMetric`).
    """

    loss_is_scaled_for_ga: bool | None
    """Attribute of Transformers' trainer: whether `compute_loss` divides by the micro-batches."""

    def __init__(self, *, setup: TrainerContext, **trainer_arguments: Any):
        self.setup = setup
        self.extra: dict[str, float] = {}
        self._step_state = _StepState()
        self._steps_per_epoch = setup.order.steps_per_epoch
        self._save_due = IntervalTrigger(setup.job.checkpoint.every, self._steps_per_epoch)
        self._evaluate_due = IntervalTrigger(setup.job.evaluate.every, self._steps_per_epoch)
        with own_router_settings(trainer_arguments["model"]):
            super().__init__(**trainer_arguments)
        self._observe_experts()
        self._cast_trainable_parameters()
        self.step_hook = get_step_hook(self.model)
        if self.step_hook:
            self.step_hook.on_train_begin(setup.order.max_steps)
        names = [name for name, _ in self.model.named_parameters()]
        self.lr_multipliers = self.make_lr_multipliers(names)
        self.remove_callback(PrinterCallback)
        self.add_callback(_StepEndCallback(self))

    def _observe_experts(self) -> None:
        """Count tokens per expert, and add the load-balancing loss of a mixture of experts.

        The method's own `compute_loss` is wrapped, so that none can forget it.
        """
        # TRL's trainers would compute their own in some methods, and request router logits.
        self.aux_loss_enabled = False
        override = self.setup.job.train.router_aux_loss_coef
        coefficient = balance_coefficient(self.model, override)
        self.balance_loss = BalanceLoss(self.model, coefficient) if coefficient else None
        self.routers: RouterRecorder | None = None
        self._token_mask: torch.Tensor | None = None
        if expert_bodies(self.model):
            self.routers = RouterRecorder(self.model, keep_logits=coefficient > 0)
            self._method_loss = self.compute_loss
            self.compute_loss = self._balanced_loss  # type: ignore[method-assign]  # wraps it

    def _balanced_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss of the method plus the load-balancing loss of its forward passes.

        Args:
            model: Model, wrapped by its engine.
            inputs: Micro-batch.
            return_outputs: Must be False.
            num_items_in_batch: Divisor of the method's loss.
        """
        assert self.routers is not None
        with self.routers.recording(self._token_mask):
            loss = self._method_loss(model, inputs, return_outputs, num_items_in_batch)
        passes, balance = self.routers.take_passes(), self.balance_loss
        losses = balance.of_passes(passes, self._token_mask) if balance else []
        if balance is None or not losses:
            return loss
        total = torch.stack(losses).sum()
        self.add_metric("aux_loss", total.detach(), len(losses))
        # Processes are averaged by their engine. Micro-batches are averaged here, unless
        # Transformers divides the complete loss by their number.
        steps = self.current_gradient_accumulation_steps
        divided_later = not self._is_loss_scaled(num_items_in_batch)
        return loss + balance.coefficient * total / (1 if divided_later else steps)

    def _is_loss_scaled(self, num_items_in_batch: Any) -> bool:
        """Return whether `compute_loss` itself divides by the micro-batches, as `Trainer` asks."""
        if self.loss_is_scaled_for_ga is not None:
            return bool(self.loss_is_scaled_for_ga)
        return bool(self.model_accepts_loss_kwargs and num_items_in_batch is not None)

    def _cast_trainable_parameters(self) -> None:
        """Cast trainable parameters to fp32, or under DeepSpeed to the job's precision.

        A bf16 weight has 8 bits of mantissa: updates smaller than 1/256 of it are lost in rounding.
        DeepSpeed keeps fp32 master weights of its own, but casts no activations, so a module that
        is trained in full must have the dtype of its inputs. TRL makes all of it bf16 on a 4-bit
        base, and PEFT leaves a mix of dtypes under ZeRO 3.
        """
        sharded = self.is_deepspeed_enabled
        dtype = _DTYPES[self.setup.job.precision] if sharded else torch.float32
        for parameter in self.model.parameters():
            if not parameter.requires_grad or not parameter.is_floating_point():
                continue
            # ZeRO 3 cast the parameters that it partitioned while loading; their `data` is empty.
            if not hasattr(parameter, "ds_id"):
                parameter.data = parameter.data.to(dtype)

    # --- rows -------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this process's micro-batches for the complete run, in order."""
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
            pin_memory=setup.world.device.type == "cuda",
        )

    @property
    def train_rows(self) -> Dataset[dict[str, Any]]:
        """Training rows, including the padding row that completes a batch."""
        return RowDataset(self.setup.table, self.setup.collate.padding_example())

    @property
    def batch_collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Collate function that adds row ids and token counts to a micro-batch."""
        return CollatedBatch(self.setup.collate)

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        """Run forward and backward on one micro-batch and record its rows, tokens and loss."""
        step = self._step_state
        step.ids += inputs.pop("row_ids")
        tokens = inputs.pop("num_tokens")
        lengths = inputs.pop("sequence_lengths", None)
        if self.routers:
            self._token_mask = token_mask(inputs, lengths)
        if "labels" in inputs:
            self.count_tokens(tokens, int((inputs["labels"][..., 1:] != -100).sum()))
        inputs = to_device(inputs, self.setup.world.device)
        with compiled_step(self.setup.job.train.compile):
            loss: torch.Tensor = super().training_step(model, inputs, *rest)
        if self.step_hook and not step.losses:
            self.extra |= self.step_hook.add_gradients()
        step.losses.append(loss)
        return loss

    def count_tokens(self, tokens: int, supervised: int) -> None:
        """Add to the consumed tokens and the supervised tokens of the current step."""
        self._step_state.tokens += tokens
        self._step_state.supervised += supervised

    def add_metric(self, name: str, total: Any, weight: Any) -> None:
        """Add to a metric of the current step, which is logged as a weighted mean.

        Args:
            name: Name of the metric.
            total: Sum over the rows or tokens of a micro-batch; a number or a tensor.
            weight: Number of those rows or tokens.
        """
        self._step_state.metrics.append((name, total, weight))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: the progress callback computes utilization once per step, from tokens."""
        return 0

    # --- optimizer --------------------------------------------------------------------------

    def make_lr_multipliers(self, names: list[str]) -> LrMultipliers:
        """Return the learning-rate multipliers of the named parameters."""
        return LrMultipliers(self.setup.job, names, self.setup.order.max_steps)

    def create_optimizer(self, *arguments: Any, **more: Any) -> torch.optim.Optimizer:
        """Return the trainer's optimizer, its groups split by learning-rate multiplier."""
        existed = self.optimizer is not None
        optimizer = super().create_optimizer(*arguments, **more)
        if not existed and not self.lr_multipliers.is_uniform:
            self.lr_multipliers.split_param_groups(optimizer, self.model)
        return optimizer

    def create_scheduler(self, *arguments: Any, **more: Any) -> Any:
        """Return the trainer's scheduler, which delays groups that learn later."""
        existed = self.lr_scheduler is not None
        scheduler = super().create_scheduler(*arguments, **more)
        if not existed and not self.lr_multipliers.is_uniform:
            self.lr_multipliers.delay_groups(scheduler)
        return scheduler

    # --- end of a step ----------------------------------------------------------------------

    def finish_step(self, state: Any, control: Any) -> None:
        """Exchange the step's metrics with all processes and agree on what happens next.

        One gather per step carries metrics, due triggers and stop signals. Without it processes
        could disagree: clocks differ, and a spot reclaim may signal only one node. A process that
        saved or stopped alone would leave the others waiting in their next collective.
        """
        setup, step, number = self.setup, self._step_state, int(state.global_step)
        step.stop_signal = setup.stop_signal.received
        step.read_numbers()
        step.experts = self.routers.take_counts() if self.routers else []
        everyone: list[tuple[_StepState, bool, bool]] = setup.control.all_gather(
            (step, self._save_due.due(number), self._evaluate_due.due(number))
        )
        metrics = self._step_metrics(number, [state for state, _, _ in everyone])
        self._step_state = _StepState()
        for callback in setup.callbacks:
            callback.on_step(metrics, self.model)
        # Triggers by time depend on the clock, so rank 0 decides for all.
        _, save, evaluate = everyone[0]
        last = number >= setup.order.max_steps
        stops = setup.stop_step is not None and setup.stop_step <= number and not last
        signals = [state.stop_signal for state, _, _ in everyone if state.stop_signal]
        if signals:
            # No evaluation: a spot instance disappears two minutes after the signal.
            # `start_training` makes up for it when the run resumes.
            self.interrupted = signals[0]
            control.should_training_stop = True
        elif setup.evaluate and (evaluate or stops or (last and self.keeps_best)):
            self.evaluate_held_out(number)
            control.should_training_stop |= self.has_stalled
        if stops and not signals:
            self.interrupted = STOP_STEP_VARIABLE
            control.should_training_stop = True
        control.should_save = save or last or bool(control.should_training_stop)
        self._clock = time.monotonic()

    def _step_metrics(self, number: int, everyone: list[_StepState]) -> StepMetrics:
        norm = self._last_grad_norm
        metrics = StepMetrics(
            step=number,
            epoch=self.setup.order.epoch_at(number),
            loss=sum(state.loss for state in everyone) / len(everyone),
            grad_norm=None if norm is None else float(norm),
            learning_rate=self._last_learning_rate,
            tokens=sum(state.tokens for state in everyone),
            supervised_tokens=sum(state.supervised for state in everyone),
            row_ids=tuple(row for state in everyone for row in state.ids),
            seconds=time.monotonic() - self._clock,
            extra=means(add_sums([state.sums for state in everyone])) | self.extra,
            experts=add_counts(state.experts for state in everyone),
        )
        self.extra = {}
        return metrics

    _clock = 0.0
    _last_grad_norm: Any = None
    _last_learning_rate = 0.0

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        # Transformers calls this before the optimizer and scheduler step: the learning rate is
        # still that of the current step.
        self._last_grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._last_learning_rate = float(self._get_learning_rate())
        return self._last_grad_norm

    # --- evaluation -------------------------------------------------------------------------

    def evaluate_held_out(self, number: int) -> None:
        """Evaluate the held-out rows after step `number`, and update early stopping."""
        assert self.setup.evaluate is not None
        metrics = self.setup.evaluate(self.model, number)
        self.evaluated_at = number
        self._evaluate_due.reset()
        stopping = self.setup.job.train.early_stopping
        if metrics["loss"] < self.best_loss - (stopping.threshold if stopping else 0.0):
            self.best_loss, self.bad_evaluations = metrics["loss"], 0
        else:
            self.bad_evaluations += 1
        if self.keeps_best and metrics["loss"] < self.lowest_loss:
            self.lowest_loss, self.best_step = metrics["loss"], number
            self.best_weights.keep(self.model)
        for callback in self.setup.callbacks:
            callback.on_evaluate(number, metrics)

    @property
    def trained_model(self) -> Any:
        """Model to save at the end; a method that trains more than it saves overrides it."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def on_engine_ready(self, number: int) -> None:
        """Prepare the method after the engine is created and before any callback sees the model.

        Args:
            number: Optimizer steps done: 0 at the start of training, else training resumes.
        """

    def start_training(self, state: Any) -> None:
        """Notify the callbacks, and make up for an evaluation that a stop signal prevented."""
        number = int(state.global_step)
        self.on_engine_ready(number)
        for callback in self.setup.callbacks:
            callback.on_start(self.model, number)
        if (
            self.setup.evaluate
            and number
            and self.evaluated_at < number
            and (
                self._evaluate_due.due(number)
                or (self.keeps_best and number >= self.setup.order.max_steps)
            )
        ):
            self.evaluate_held_out(number)
        self._clock = time.monotonic()


class _StepEndCallback(TrainerCallback):
    """Transformers callback that calls the mixin."""

    def __init__(self, trainer: ExactTrainerMixin):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.start_training(state)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if hook := self.trainer.step_hook:
            # `global_step` is increased after this event.
            self.trainer.extra |= hook.on_optimizer_step(int(state.global_step) + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.finish_step(state, control)
