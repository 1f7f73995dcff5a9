"""What every trainer here gains over its Transformers parent: exactness.

A method mixes `ExactLoop` into its TRL or Transformers trainer and inherits
- the order of rows, fixed by the seed alone (`order.py`), and a record of the rows each step saw;
- one agreement of all processes per step: what happened, whether to save, evaluate, or stop;
- checkpoints written whole or not at all, by steps, epochs or minutes, and when told to stop;
- watchers (guards, progress, tracking) that see each step's true numbers.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, TrainerCallback

from training.config import Job
from training.engine.cadence import Cadence
from training.engine.checkpoints import PREFIX, Vault
from training.engine.compile import compiled_step
from training.engine.interrupt import StopSignal
from training.engine.measure import NextToken, Sums, added, means
from training.engine.order import FILLER, MicroBatches, Order
from training.engine.rates import Rates
from training.engine.reshape import (
    check_portable,
    deal_optimizer,
    deal_weights,
    needs_reshaping,
    portable,
)
from training.engine.watch import StepFacts, Watcher
from training.engine.world import ControlPlane, World
from training.errors import Interrupted

STREAM = "stream.json"


class Table(Protocol):
    """Rows by index."""

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@runtime_checkable
class Stream(Protocol):
    """A table that is read forward only, and can say where it stands."""

    def state_dict(self) -> dict[str, Any]:
        """Return where it stands."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class Collate(Protocol):
    """Rows to tensors."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch, padded."""

    def filler(self) -> dict[str, Any]:
        """Return a row without tokens."""

    def longest(self, length: int) -> dict[str, Any]:
        """Return a row of sequences of `length` tokens, as long as rows get."""


@dataclass
class Setup:
    """Everything the loop needs beyond its trainer's own arguments.

    Attributes:
        job: The run.
        world: This process among its peers.
        control: Their agreement.
        folder: The run folder.
        order: Which rows each step consumes.
        table: The rows to train on.
        validation: The rows held out; None where there are none.
        lengths: Of the rows, where those of like length are computed together.
        collate: Makes batches of rows.
        micro_batch_size: Rows per device at once.
        vault: Keeps checkpoints.
        stop: Says whether the run was told to stop.
        start: Loads what training starts from once more, without an adapter.
        watchers: See every step.
        evaluate: Measures the held-out rows; None where there are none.
    """

    job: Job
    world: World
    control: ControlPlane
    folder: Path
    order: Order
    table: Table
    validation: Table | None
    lengths: Sequence[int] | None
    collate: Collate
    micro_batch_size: int
    vault: Vault
    stop: StopSignal
    start: Callable[[], Any]
    watchers: Sequence[Watcher] = ()
    evaluate: Callable[[Any, int], dict[str, float]] | None = None


class _Rows(Dataset[dict[str, Any]]):
    """The table as a torch data set that also knows the filler row."""

    def __init__(self, table: Table, filler: dict[str, Any]):
        self.table = table
        self.filler = filler

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.filler if index == FILLER else self.table[index]


@dataclass
class _Step:
    """What this process saw of the step under way."""

    losses: list[torch.Tensor] = field(default_factory=list)
    loss: float = 0.0
    tokens: int = 0
    supervised: int = 0
    ids: list[str] = field(default_factory=list)
    noted: list[tuple[str, Any, Any]] = field(default_factory=list)
    sums: Sums = field(default_factory=dict)
    asked_to_stop: str | None = None


class ExactLoop(NextToken):
    """Mix into a Transformers trainer, before it in the list of parents.

    A trainer whose rows are not measured by the loss of their next token says how they are, in
    `measure_batch` and `conclude` (see `measure.Measure`).
    """

    def __init__(self, *, setup: Setup, **trainer_arguments: Any):
        self.setup = setup
        self.interrupted: str | None = None
        self.best_loss = math.inf
        self.bad_evaluations = 0
        self.extra: dict[str, float] = {}
        self.evaluated_at = -1
        self._under_way = _Step()
        self._staging: Path | None = None
        self._steps_per_epoch = setup.order.steps_per_epoch
        self._save_due = Cadence(setup.job.checkpoint.every, self._steps_per_epoch)
        self._evaluate_due = Cadence(setup.job.evaluate.every, self._steps_per_epoch)
        super().__init__(**trainer_arguments)
        self._learn_in_full_precision()
        names = [name for name, _ in self.model.named_parameters()]  # type: ignore[attr-defined]
        self.rates = self.make_rates(names)
        self.remove_callback(PrinterCallback)  # type: ignore[attr-defined]  # the trainer's
        self.add_callback(_StepEnd(self))  # type: ignore[attr-defined]  # the trainer's

    def _learn_in_full_precision(self) -> None:
        """Keep what learns in fp32; DeepSpeed keeps its own fp32 copy.

        A bf16 weight has 8 bits of mantissa: steps smaller than 1/256 of it are lost in rounding.
        """
        if self.is_deepspeed_enabled:  # type: ignore[attr-defined]  # the trainer's
            return
        for parameter in self.model.parameters():  # type: ignore[attr-defined]  # the trainer's
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.data = parameter.data.float()

    # --- rows -------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this process's micro-batches for the whole run, in order."""
        setup = self.setup
        sampler = MicroBatches(
            setup.order,
            rank=setup.world.rank,
            world_size=setup.world.size,
            micro_batch_size=setup.micro_batch_size,
            lengths=setup.lengths,
        )
        return DataLoader(
            self.rows,
            batch_sampler=sampler,
            collate_fn=self.collated,
            pin_memory=setup.world.accelerated,
        )

    @property
    def rows(self) -> Dataset[dict[str, Any]]:
        """The rows to train on, and the one that fills up a batch."""
        return _Rows(self.setup.table, self.setup.collate.filler())

    @property
    def collated(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """What makes a micro-batch of rows, with their ids and the count of their tokens."""
        return _Collated(self.setup.collate)

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        """Take one micro-batch forward and backward, noting what it held."""
        step = self._under_way
        step.ids += inputs.pop("row_ids")
        tokens = inputs.pop("num_tokens")
        if "labels" in inputs:
            self.count(tokens, int((inputs["labels"][..., 1:] != -100).sum()))
        with compiled_step(self.setup.job.train.compile):
            loss: torch.Tensor = super().training_step(model, inputs, *rest)  # type: ignore[misc]
        step.losses.append(loss)
        return loss

    def count(self, tokens: int, supervised: int) -> None:
        """Add to the tokens this step consumed, and to those it learns from."""
        self._under_way.tokens += tokens
        self._under_way.supervised += supervised

    def note(self, name: str, total: Any, weight: Any) -> None:
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

    def make_rates(self, names: list[str]) -> Rates:
        """Return which of these parameters learns at which rate."""
        return Rates(self.setup.job, names, self.setup.order.max_steps)

    def create_optimizer(self, *arguments: Any, **more: Any) -> torch.optim.Optimizer:
        """Return the trainer's optimizer, its groups divided where rates differ."""
        made_before = self.optimizer is not None  # type: ignore[attr-defined]  # the trainer's
        optimizer = super().create_optimizer(*arguments, **more)  # type: ignore[misc]
        if not made_before and not self.rates.uniform:
            self.rates.split(optimizer, self.model)  # type: ignore[attr-defined]
        return optimizer

    def create_scheduler(self, *arguments: Any, **more: Any) -> Any:
        """Return the trainer's scheduler, which holds back what is to learn later."""
        made_before = self.lr_scheduler is not None  # type: ignore[attr-defined]  # the trainer's
        scheduler = super().create_scheduler(*arguments, **more)  # type: ignore[misc]
        if not made_before and not self.rates.uniform:
            self.rates.hold_back(scheduler)
        return scheduler

    # --- the end of a step ------------------------------------------------------------------

    def close_step(self, state: Any, control: Any) -> None:
        """Agree with the other processes on what this step was and what comes next."""
        setup, step, number = self.setup, self._under_way, int(state.global_step)
        step.asked_to_stop = setup.stop.asked
        # Read here, once per step: reading each micro-batch would make a device wait each time.
        step.loss, step.losses = float(sum(float(loss) for loss in step.losses)), []
        step.sums = added([{name: (float(t), float(w))} for name, t, w in step.noted])
        step.noted = []
        everyone: list[tuple[_Step, bool, bool]] = setup.control.gather(
            (step, self._save_due.due(number), self._evaluate_due.due(number))
        )
        facts = self._facts(number, [mine for mine, _, _ in everyone])
        self._under_way = _Step()
        for watcher in setup.watchers:
            watcher.on_step(facts, self.model)  # type: ignore[attr-defined]  # the trainer's
        # The first process's clock decides; the others follow.
        _, save, evaluate = everyone[0]
        last = number >= setup.order.max_steps
        asked = next((mine.asked_to_stop for mine, _, _ in everyone if mine.asked_to_stop), None)
        if asked:
            self.interrupted = asked
            control.should_training_stop = True
        elif evaluate and setup.evaluate:
            self.measure(number)
            control.should_training_stop |= self._has_stalled()
        control.should_save = save or last or bool(control.should_training_stop)
        self._clock = time.monotonic()

    def _facts(self, number: int, everyone: list[_Step]) -> StepFacts:
        norm = self._last_grad_norm
        facts = StepFacts(
            step=number,
            epoch=self.setup.order.epoch_at(number),
            loss=sum(mine.loss for mine in everyone) / len(everyone),
            grad_norm=None if norm is None else float(norm),
            learning_rate=self._last_learning_rate,
            tokens=sum(mine.tokens for mine in everyone),
            supervised_tokens=sum(mine.supervised for mine in everyone),
            row_ids=tuple(row for mine in everyone for row in mine.ids),
            seconds=time.monotonic() - self._clock,
            extra=means(added([mine.sums for mine in everyone])) | self.extra,
        )
        self.extra = {}
        return facts

    _clock = 0.0
    _last_grad_norm: Any = None
    _last_learning_rate = 0.0

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        self._last_grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]
        self._last_learning_rate = float(self._get_learning_rate())  # type: ignore[attr-defined]
        return self._last_grad_norm

    # --- evaluation -------------------------------------------------------------------------

    def measure(self, number: int) -> None:
        """Take the held-out loss after step `number`."""
        assert self.setup.evaluate is not None
        metrics = self.setup.evaluate(self.model, number)  # type: ignore[attr-defined]
        self.evaluated_at = number
        self._evaluate_due.done()
        stopping = self.setup.job.train.early_stopping
        if metrics["loss"] < self.best_loss - (stopping.threshold if stopping else 0.0):
            self.best_loss, self.bad_evaluations = metrics["loss"], 0
        else:
            self.bad_evaluations += 1
        for watcher in self.setup.watchers:
            watcher.on_evaluate(number, metrics)

    def _has_stalled(self) -> bool:
        stopping = self.setup.job.train.early_stopping
        return stopping is not None and self.bad_evaluations >= stopping.patience

    # --- checkpoints ------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))  # type: ignore[misc]

    def create_model_card(self, *ignored: Any, **also_ignored: Any) -> None:
        """Write none: the run's own card is written once, at the end."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        setup, number = self.setup, int(self.state.global_step)  # type: ignore[attr-defined]
        facts = {
            "step": number,
            "world_size": setup.world.size,
            "zero": setup.job.sharding.zero,
            "fsdp": setup.job.sharding.fsdp,
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "bad_evaluations": self.bad_evaluations,
            "evaluated_at": self.evaluated_at,
            "stalled": self._has_stalled(),
            "method": self.state_to_keep(),
        }
        with setup.vault.writing(number, facts) as staging, self._writing_to(staging):
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            if setup.world.is_keeper and setup.job.sharding.zero:
                # DeepSpeed names its folder for the first process only, and reads it on all.
                (staging / f"{PREFIX}{number}" / "latest").write_text(f"global_step{number}")
            if setup.world.is_keeper and isinstance(setup.table, Stream):
                place = staging / f"{PREFIX}{number}" / STREAM
                place.write_text(json.dumps(setup.table.state_dict()))
            if setup.world.is_first:
                self.keep_files(staging / f"{PREFIX}{number}")
        self._save_due.done()
        for watcher in setup.watchers:
            watcher.on_save(number)

    @contextmanager
    def _writing_to(self, staging: Path) -> Iterator[None]:
        self._staging = staging
        try:
            yield
        finally:
            self._staging = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights; inside a checkpoint only where the engine does not do so itself."""
        if self._staging is not None and self.is_deepspeed_enabled:  # type: ignore[attr-defined]
            Path(output_dir or "").mkdir(parents=True, exist_ok=True)
            return
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]

    # --- going on ---------------------------------------------------------------------------

    def run(self, checkpoint: Path | None, facts: dict[str, Any] | None) -> None:
        """Train to the end, or from `checkpoint` on.

        Args:
            checkpoint: Where to go on from; None to start.
            facts: What that checkpoint was written with.

        Raises:
            Interrupted: Told to stop; a checkpoint was written.
        """
        if facts is not None:
            self.best_loss = math.inf if facts["best_loss"] is None else facts["best_loss"]
            self.bad_evaluations = facts["bad_evaluations"]
            self.evaluated_at = facts["evaluated_at"]
            self.take_up(facts.get("method", {}))
        if checkpoint is not None:
            self.take_up_files(checkpoint)
        if checkpoint is not None and isinstance(self.setup.table, Stream):
            self.setup.table.load_state_dict(json.loads((checkpoint / STREAM).read_text()))
        self._reshape = facts if needs_reshaping(self.setup.job, self.setup.world, facts) else None
        if self._reshape:
            check_portable(self.setup.job, self._reshape)
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)  # type: ignore[attr-defined]
        if self.interrupted:
            raise Interrupted(
                f"stopped by {self.interrupted} after step {self.state.global_step}; "  # type: ignore[attr-defined]
                f"the same command goes on from there"
            )

    _reshape: dict[str, Any] | None = None

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        if self._reshape is None:
            super()._load_from_checkpoint(checkpoint, model)  # type: ignore[misc]

    def _prepare_for_training(self, max_steps: int, loader: Any, checkpoint: str | None) -> Any:
        """Make the engine; where the checkpoint was cut for others, deal it out anew."""
        if self._reshape is None or checkpoint is None:
            return super()._prepare_for_training(max_steps, loader, checkpoint)  # type: ignore[misc]
        names = self._optimizer_order()
        with portable(Path(checkpoint), self._reshape, names, self.setup.control) as source:
            deal_weights(self.model, source)  # type: ignore[attr-defined]
            ready = super()._prepare_for_training(max_steps, loader, None)  # type: ignore[misc]
            deal_optimizer(self, source, self._reshape["step"], names)
        schedule = torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True)
        number = len(self.optimizer.param_groups)  # type: ignore[attr-defined]  # the trainer's
        if self.rates.uniform:
            # One rate for all groups; an engine may leave out a group without parameters.
            for key in ("base_lrs", "_last_lr", "lr_lambdas"):
                schedule[key] = (schedule[key] * number)[:number]
        self.lr_scheduler.load_state_dict(schedule)  # type: ignore[attr-defined]
        # The next step's rate stands in the optimizer's groups, which were made anew.
        for group, rate in zip(self.optimizer.param_groups, schedule["_last_lr"], strict=True):  # type: ignore[attr-defined]
            group["lr"] = rate
        return ready

    def _optimizer_order(self) -> list[str]:
        """Return the trainable parameters in the order an unsharded optimizer numbers them."""
        model = self.model  # type: ignore[attr-defined]
        decayed = set(self.get_decay_parameter_names(model))  # type: ignore[attr-defined]
        trainable = [name for name, p in model.named_parameters() if p.requires_grad]
        groups = [[n for n in trainable if (n in decayed) is wanted] for wanted in (True, False)]
        if not self.rates.uniform:
            groups = [names for _, _, names in self.rates.divide(groups)]
        return [name for names in groups for name in names]

    def state_to_keep(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the method beyond weights: JSON, for any process."""
        return {}

    def take_up(self, state: dict[str, Any]) -> None:
        """Go on from what `state_to_keep` returned."""

    def keep_files(self, checkpoint: Path) -> None:
        """Write what a checkpoint keeps of the method and JSON cannot hold, on one process."""

    def take_up_files(self, checkpoint: Path) -> None:
        """Go on from what `keep_files` wrote, on every process."""

    @property
    def outcome(self) -> Any:
        """The model that is saved in the end: all that is trained, unless a method trains more."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)  # type: ignore[attr-defined]

    def prepare(self, number: int) -> None:
        """Do what comes after the engine is made and before the first look at the model.

        Args:
            number: Steps done; training begins where it is 0, and else goes on.
        """

    def begin(self, state: Any) -> None:
        """Tell the watchers, and make up for an evaluation that a stop had cut off."""
        number = int(state.global_step)
        self.prepare(number)
        for watcher in self.setup.watchers:
            watcher.on_start(self.model, number)  # type: ignore[attr-defined]
        if (
            self.setup.evaluate
            and number
            and self.evaluated_at < number
            and self._evaluate_due.due(number)
        ):
            self.measure(number)
        self._clock = time.monotonic()


class _Collated:
    """Collates, and carries the ids and the count of real tokens along."""

    def __init__(self, collate: Collate):
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = dict(self.collate(rows))
        batch["row_ids"] = [name for row in rows for name in row["ids"]]
        batch["num_tokens"] = sum(len(row["input_ids"]) for row in rows)
        return batch


class _StepEnd(TrainerCallback):
    """Calls back into the loop, where Transformers calls its callbacks."""

    def __init__(self, loop: ExactLoop):
        self.loop = loop

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.loop.begin(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.loop.close_step(state, control)
