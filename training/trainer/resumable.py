"""Checkpoints that a run goes on from exactly, on the hardware that wrote them or on other."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from training.errors import Interrupted
from training.trainer.checkpoints import PREFIX
from training.trainer.context import StreamDataset, TrainerContext
from training.trainer.lr_groups import LrMultipliers
from training.trainer.resharding import (
    check_portable,
    needs_resharding,
    portable,
    shard_optimizer_states,
    shard_weights,
)
from training.trainer.step_hooks import FILE as ATTENDANT
from training.trainer.step_hooks import StepHook
from training.trainer.trainer_types import TrainerParent
from training.trainer.triggers import IntervalTrigger

STREAM = "stream.json"


class ResumableTrainerMixin(TrainerParent):
    """Mix into a Transformers trainer, before it in the list of parents (see `ExactLoop`).

    Attributes:
        setup: What the trainer was handed.
        lr_multipliers: Which parameter learns at which rate.
        step_hook: What the adapter does in each step, if anything.
        interrupted: What told the run to stop.
        best_loss: Least held-out loss so far.
        bad_evaluations: How many followed it.
        evaluated_at: The step of the last.
    """

    setup: TrainerContext
    lr_multipliers: LrMultipliers
    step_hook: StepHook | None = None
    interrupted: str | None = None
    best_loss: float = math.inf
    bad_evaluations: int = 0
    evaluated_at: int = -1
    _save_due: IntervalTrigger
    _staging: Path | None = None

    @property
    def has_stalled(self) -> bool:
        """Whether early stopping has seen enough."""
        stopping = self.setup.job.train.early_stopping
        return stopping is not None and self.bad_evaluations >= stopping.patience

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))

    def create_model_card(self, *ignored: Any, **also_ignored: Any) -> None:
        """Write none: the run's own card is written once, at the end."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        setup, number = self.setup, int(self.state.global_step)
        facts = {
            "step": number,
            "world_size": setup.world.size,
            "zero": setup.job.sharding.zero,
            "fsdp": setup.job.sharding.fsdp,
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "bad_evaluations": self.bad_evaluations,
            "evaluated_at": self.evaluated_at,
            "stalled": self.has_stalled,
            "method": self.extra_state(),
        }
        with setup.checkpoints.writing(number, facts) as staging, self._writing_to(staging):
            super()._save_checkpoint(model, trial)
            if setup.world.is_local_writer and setup.job.sharding.zero:
                # DeepSpeed names its folder for the first process only, and reads it on all.
                (staging / f"{PREFIX}{number}" / "latest").write_text(f"global_step{number}")
            if setup.world.is_local_writer and isinstance(setup.table, StreamDataset):
                place = staging / f"{PREFIX}{number}" / STREAM
                place.write_text(json.dumps(setup.table.state_dict()))
            if setup.world.is_local_writer and self.step_hook:
                place = staging / f"{PREFIX}{number}" / ATTENDANT
                torch.save(self.step_hook.state_dict(), place)
            if setup.world.is_main_process:
                self.save_extra_files(staging / f"{PREFIX}{number}")
        self._save_due.done()
        for watcher in setup.callbacks:
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
        if self._staging is not None and self.is_deepspeed_enabled:
            Path(output_dir or "").mkdir(parents=True, exist_ok=True)
            return
        super().save_model(output_dir, _internal_call)

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
            self.load_extra_state(facts.get("method", {}))
        if checkpoint is not None:
            self.load_extra_files(checkpoint)
        if checkpoint is not None and isinstance(self.setup.table, StreamDataset):
            self.setup.table.load_state_dict(json.loads((checkpoint / STREAM).read_text()))
        if checkpoint is not None and self.step_hook:
            state = torch.load(checkpoint / ATTENDANT, map_location="cpu", weights_only=True)
            self.step_hook.load_state_dict(state)
        self._reshape = facts if needs_resharding(self.setup.job, self.setup.world, facts) else None
        if self._reshape:
            check_portable(self.setup.job, self._reshape)
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if self.interrupted:
            raise Interrupted(
                f"stopped by {self.interrupted} after step {self.state.global_step}; "
                f"the same command goes on from there"
            )

    _reshape: dict[str, Any] | None = None

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        if self._reshape is None:
            super()._load_from_checkpoint(checkpoint, model)

    def _prepare_for_training(self, max_steps: int, loader: Any, checkpoint: str | None) -> Any:
        """Make the engine; where the checkpoint was cut for others, deal it out anew."""
        if self._reshape is None or checkpoint is None:
            return super()._prepare_for_training(max_steps, loader, checkpoint)
        names = self._optimizer_order()
        with portable(Path(checkpoint), self._reshape, names, self.setup.control) as source:
            shard_weights(self.model, source)
            ready = super()._prepare_for_training(max_steps, loader, None)
            shard_optimizer_states(self, source, self._reshape["step"], names)
        schedule = torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True)
        number = len(self.optimizer.param_groups)
        if self.lr_multipliers.uniform:
            # One rate for all groups; an engine may leave out a group without parameters.
            for key in ("base_lrs", "_last_lr", "lr_lambdas"):
                schedule[key] = (schedule[key] * number)[:number]
        self.lr_scheduler.load_state_dict(schedule)
        # The next step's rate stands in the optimizer's groups, which were made anew.
        for group, rate in zip(self.optimizer.param_groups, schedule["_last_lr"], strict=True):
            group["lr"] = rate
        return ready

    def _optimizer_order(self) -> list[str]:
        """Return the trainable parameters in the order an unsharded optimizer numbers them."""
        decayed = set(self.get_decay_parameter_names(self.model))
        trainable = [name for name, p in self.model.named_parameters() if p.requires_grad]
        groups = [[n for n in trainable if (n in decayed) is wanted] for wanted in (True, False)]
        if not self.lr_multipliers.uniform:
            groups = [names for _, _, names in self.lr_multipliers.divide(groups)]
        return [name for names in groups for name in names]

    def extra_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the method beyond weights: JSON, for any process."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from what `extra_state` returned."""

    def save_extra_files(self, checkpoint: Path) -> None:
        """Write what a checkpoint keeps of the method and JSON cannot hold, on one process."""

    def load_extra_files(self, checkpoint: Path) -> None:
        """Go on from what `save_extra_files` wrote, on every process."""
