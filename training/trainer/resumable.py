"""Mixin that saves checkpoints and resumes from them exactly, on the same or other hardware."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from training.branching import is_branch
from training.console import say
from training.errors import CheckpointError, Interrupted
from training.trainer.best_weights import BestWeights
from training.trainer.checkpoints import PREFIX
from training.trainer.context import StreamDataset, TrainerContext
from training.trainer.lr_groups import LrMultipliers
from training.trainer.optimizer_settings import OptimizerSettings
from training.trainer.resharding import (
    check_portable,
    needs_resharding,
    open_portable,
    shard_optimizer_states,
    shard_weights,
)
from training.trainer.step_hooks import STEP_HOOK_FILE, StepHook
from training.trainer.trainer_types import TrainerParent
from training.trainer.triggers import IntervalTrigger

STREAM_FILE = "stream.json"


class ResumableTrainerMixin(TrainerParent):
    """Mixin that precedes a Transformers trainer in a list of base classes.

    Attributes:
        setup: Context of the trainer.
        lr_multipliers: Learning-rate multipliers of the parameters.
        step_hook: Step hook of the adapter, if it has one.
        interrupted: Name of the stop signal that ended training, if one did.
        best_loss: Lowest held-out loss so far.
        bad_evaluations: Evaluations since then.
        lowest_loss: Lowest held-out loss, whatever `early_stopping.threshold` is.
        best_step: Step with the lowest held-out loss; -1 before the first evaluation.
        restored_step: Step whose weights were restored at the end; None if they are the last.
        evaluated_at: Step of the last evaluation.
    """

    setup: TrainerContext
    lr_multipliers: LrMultipliers
    step_hook: StepHook | None = None
    interrupted: str | None = None
    best_loss: float = math.inf
    bad_evaluations: int = 0
    lowest_loss: float = math.inf
    best_step: int = -1
    restored_step: int | None = None
    evaluated_at: int = -1
    _save_due: IntervalTrigger
    _staging: Path | None = None

    @property
    def has_stalled(self) -> bool:
        """True if early stopping has run out of patience."""
        stopping = self.setup.job.train.early_stopping
        return stopping is not None and self.bad_evaluations >= stopping.patience

    @property
    def keeps_best(self) -> bool:
        """True if the weights with the lowest held-out loss are saved at the end."""
        return self.setup.job.train.keeps_best and self.setup.evaluate is not None

    @cached_property
    def best_weights(self) -> BestWeights:
        """Copy of the weights with the lowest held-out loss."""
        return BestWeights(self.setup.folder, self.setup.control)

    # --- saving -----------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))

    def create_model_card(self, *ignored: Any, **also_ignored: Any) -> None:
        """Do nothing: the run's own model card is written once, at the end."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        setup, number = self.setup, int(self.state.global_step)
        metadata = {
            "step": number,
            "world_size": setup.world.size,
            "zero": setup.job.sharding.zero,
            "fsdp": setup.job.sharding.fsdp,
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "bad_evaluations": self.bad_evaluations,
            "lowest_loss": None if math.isinf(self.lowest_loss) else self.lowest_loss,
            "best_step": self.best_step,
            "evaluated_at": self.evaluated_at,
            "stalled": self.has_stalled,
            "inputs": dict(setup.input_digests),
            "method": self.extra_state(),
        }
        with setup.checkpoints.save(number, metadata) as staging, self._redirect_output(staging):
            super()._save_checkpoint(model, trial)
            checkpoint = staging / f"{PREFIX}{number}"
            if setup.world.is_local_writer and setup.job.sharding.zero:
                # DeepSpeed writes `latest` on rank 0 only, but reads it on every node.
                (checkpoint / "latest").write_text(f"global_step{number}")
            if setup.world.is_local_writer and isinstance(setup.table, StreamDataset):
                (checkpoint / STREAM_FILE).write_text(json.dumps(setup.table.state_dict()))
            if setup.world.is_local_writer and self.step_hook:
                torch.save(self.step_hook.state_dict(), checkpoint / STEP_HOOK_FILE)
            if setup.world.is_main_process:
                self.save_extra_files(checkpoint)
                if self.keeps_best:
                    self.best_weights.add_to(checkpoint)
        self._save_due.reset()
        for callback in setup.callbacks:
            callback.on_save(number)

    @contextmanager
    def _redirect_output(self, staging: Path) -> Iterator[None]:
        self._staging = staging
        try:
            yield
        finally:
            self._staging = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights, unless DeepSpeed saves them as part of a checkpoint."""
        if self._staging is not None and self.is_deepspeed_enabled:
            # Transformers would gather the sharded weights for a second copy.
            Path(output_dir or "").mkdir(parents=True, exist_ok=True)
            return
        super().save_model(output_dir, _internal_call)

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        """Save the weights of a checkpoint under the names that they have in memory.

        Transformers saves a mixture of experts with a tensor per expert, and some models under
        other names; on resuming, it looks for the names in memory and leaves out what it misses.
        """
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if self._staging is None or not isinstance(model, PreTrainedModel):
            super()._save(output_dir, state_dict)
            return
        save = model.save_pretrained
        model.save_pretrained = partial(save, save_original_format=False)
        try:
            super()._save(output_dir, state_dict)
        finally:
            del model.save_pretrained

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Raise if a checkpoint lacks weights of the model, which Transformers only warns of.

        Raises:
            CheckpointError: It does.
        """
        tensors = self.model.state_dict(keep_vars=True)
        missing = set(load_result.missing_keys)
        # One name of tied weights is saved.
        loaded = {id(tensor) for name, tensor in tensors.items() if name not in missing}
        lost = [
            n for n in load_result.missing_keys if n in tensors and id(tensors[n]) not in loaded
        ]
        if lost:
            raise CheckpointError(
                f"the checkpoint lacks {len(lost)} of {len(tensors)} tensors of the model "
                f"({lost[0]}, …), which would silently resume from their initial values. An older "
                f"version wrote it; start over with --fresh"
            )

    # --- resuming ---------------------------------------------------------------------------

    def run(self, checkpoint: Path | None, facts: dict[str, Any] | None) -> None:
        """Train to the end, from the start or from a checkpoint.

        Args:
            checkpoint: Checkpoint to resume from; None to start.
            facts: Metadata of that checkpoint.

        Raises:
            Interrupted: A stop signal was received, and a checkpoint was written.
        """
        if facts is not None:
            self.best_loss = math.inf if facts["best_loss"] is None else facts["best_loss"]
            self.bad_evaluations = facts["bad_evaluations"]
            self.evaluated_at = facts["evaluated_at"]
            if self.keeps_best and facts.get("lowest_loss") is not None:
                self.lowest_loss, self.best_step = facts["lowest_loss"], facts["best_step"]
            self.load_extra_state(facts.get("method", {}))
        if checkpoint is not None:
            self.load_extra_files(checkpoint)
            if self.keeps_best:
                self.best_weights.take_from(checkpoint)
        if checkpoint is not None and isinstance(self.setup.table, StreamDataset):
            self.setup.table.load_state_dict(json.loads((checkpoint / STREAM_FILE).read_text()))
        if checkpoint is not None and self.step_hook:
            state = torch.load(checkpoint / STEP_HOOK_FILE, map_location="cpu", weights_only=True)
            self.step_hook.load_state_dict(state)
        if needs_resharding(self.setup.job, self.setup.world, facts):
            self._reshard_from = facts
        if self._reshard_from:
            check_portable(self.setup.job, self._reshard_from)
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if self.interrupted:
            raise Interrupted(
                f"stopped by {self.interrupted} after step {self.state.global_step}; "
                f"run the same command again to resume"
            )
        self._restore_best()

    def _restore_best(self) -> None:
        """Restore the weights with the lowest held-out loss, unless they are the last."""
        if not self.keeps_best or self.best_step < 0:
            return
        last = int(self.state.global_step)
        if self.best_step < last:
            self.best_weights.restore(self.model)
            self.restored_step = self.best_step
        if self.setup.world.is_main_process:
            self.best_weights.delete()
            say(
                f"saved are the best weights, those of step {self.best_step} of {last} "
                f"(held-out loss {self.lowest_loss:.4f}); train.keep: last saves the last"
            )

    _reshard_from: dict[str, Any] | None = None
    """Metadata of a checkpoint with other sharding; None if the engine can read it itself."""

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        if self._reshard_from is None:
            super()._load_from_checkpoint(checkpoint, model)

    def _prepare_for_training(self, max_steps: int, loader: Any, checkpoint: str | None) -> Any:
        """Create the engine; reshard a checkpoint that was written with other sharding.

        Weights are loaded before the engine exists, because it copies them into its fp32 master
        weights. Optimizer states are loaded after it has created the partitions they belong to.
        """
        if self._reshard_from is None or checkpoint is None:
            return super()._prepare_for_training(max_steps, loader, checkpoint)
        names = self._optimizer_order()
        control, metadata = self.setup.control, self._reshard_from
        with open_portable(Path(checkpoint), metadata, names, control) as source:
            shard_weights(self.model, source)
            ready = super()._prepare_for_training(max_steps, loader, None)
            shard_optimizer_states(self, source, metadata["step"], names)
        schedule = torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True)
        num_groups = len(self.optimizer.param_groups)
        if self.lr_multipliers.is_uniform:
            # All groups share one learning rate, and ZeRO 3 drops groups without trainable
            # parameters: repeat or cut the lists to the number of groups that this engine has.
            for key in ("base_lrs", "_last_lr", "lr_lambdas"):
                schedule[key] = (schedule[key] * num_groups)[:num_groups]
        self.lr_scheduler.load_state_dict(schedule)
        # The optimizer reads the next step's learning rate from its groups, which are new.
        for group, rate in zip(self.optimizer.param_groups, schedule["_last_lr"], strict=True):
            group["lr"] = rate
        return ready

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the states of a checkpoint; of another run's, without its hyperparameters."""
        own = OptimizerSettings.of(self.optimizer, self.lr_scheduler)
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and is_branch(self.setup.folder):
            own.restore(self.optimizer, self.lr_scheduler)

    def _optimizer_order(self) -> list[str]:
        """Return the trainable parameters in the order in which an unsharded optimizer has them.

        Transformers makes a group with weight decay and one without; torch numbers the states of
        `optimizer.pt` through all groups.
        """
        decayed = set(self.get_decay_parameter_names(self.model))
        trainable = [name for name, p in self.model.named_parameters() if p.requires_grad]
        groups = [[n for n in trainable if (n in decayed) is wanted] for wanted in (True, False)]
        if not self.lr_multipliers.is_uniform:
            groups = [names for _, _, names in self.lr_multipliers.partition(groups)]
        return [name for names in groups for name in names]

    # --- state of the method ----------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        """Return the method's own state as JSON, valid for any process."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `extra_state` returned."""

    def save_extra_files(self, checkpoint: Path) -> None:
        """Write the method's own state that JSON cannot hold, on one process."""

    def load_extra_files(self, checkpoint: Path) -> None:
        """Restore what `save_extra_files` wrote, on every process."""
