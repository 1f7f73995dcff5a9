"""Checkpoints of PPO: trainable weights, controller, monitor, and the current rollout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from training.methods.common.rollout_log import RolloutLog
from training.methods.ppo.actor_critic import trainable_parameters
from training.methods.ppo.kl_controller import KlController
from training.methods.ppo.rollout import RolloutBatch
from training.methods.ppo.sampler import RolloutSampler
from training.methods.ppo.stop_rules import DivergenceMonitor
from training.trainer.exact_trainer import ExactTrainerMixin

_WEIGHTS, _ROLLOUT = "model.safetensors", "rollout.safetensors"


class PpoCheckpointMixin(ExactTrainerMixin):
    """Mixin that adds the state of PPO to checkpoints, for an exact resume.

    A checkpoint may be saved between two optimizer steps of one rollout. The rollout is stored with
    it: it cannot be sampled again, because the policy has changed since.
    """

    sampler: RolloutSampler
    kl_controller: KlController
    monitor: DivergenceMonitor
    rollout_log: RolloutLog
    rollout: RolloutBatch | None
    rollout_number: int
    rollout_metrics: dict[str, float]

    # Attributes of Transformers' trainer.
    args: Any
    model: Any

    def extra_state(self) -> dict[str, Any]:
        """Return the states of controller, monitor and rewards, and the rollout's metrics."""
        return {
            "price": self.kl_controller.state_dict(),
            "watch": self.monitor.state_dict(),
            "rewards": self.sampler.rewards.state_dict(),
            "round": self.rollout_number,
            "facts": self.rollout_metrics,
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the state that `extra_state` returned."""
        self.kl_controller.load_state_dict(state["price"])
        self.monitor.load_state_dict(state["watch"])
        self.sampler.rewards.load_state_dict(state["rewards"])
        self.rollout_number, self.rollout_metrics = int(state["round"]), dict(state["facts"])

    def on_engine_ready(self, number: int) -> None:
        """Drop the logged answers that a resumed run samples again."""
        self.rollout_log.truncate(number)

    def save_extra_files(self, checkpoint: Path) -> None:
        """Write the current rollout."""
        assert self.rollout is not None
        save_file(self.rollout.state_dict(), checkpoint / _ROLLOUT)

    def load_extra_files(self, checkpoint: Path) -> None:
        """Read the current rollout."""
        self.rollout = RolloutBatch.from_state_dict(load_file(checkpoint / _ROLLOUT))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the trainable weights; frozen ones are loaded from their source on resume."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        parameters = trainable_parameters(self.model)
        tensors = {name: p.detach().cpu().contiguous() for name, p in parameters.items()}
        save_file(tensors, folder / _WEIGHTS)

    def _load_from_checkpoint(self, checkpoint: str, model: nn.Module | None = None) -> None:
        if self._reshard_from is not None:
            # The weights of another number of processes are loaded by the resharding.
            return
        tensors = load_file(Path(checkpoint) / _WEIGHTS)
        with torch.no_grad():
            for name, parameter in trainable_parameters(self.model).items():
                parameter.copy_(tensors[name])
