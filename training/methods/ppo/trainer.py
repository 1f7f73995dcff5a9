"""PPO trainer on Transformers' training loop, with its engines, guards and checkpoints.

A rollout serves several optimizer steps. When a step begins a new one, every process samples
answers to its share of the prompts and gathers those of the others; then advantages are computed,
and each following step trains on a part of the answers.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer

from training.config.ppo import Ppo
from training.errors import GuardError
from training.methods.common.rollout_log import LoggedAnswer, RolloutLog
from training.methods.ppo.actor_critic import ActorCritic
from training.methods.ppo.checkpointing import PpoCheckpointMixin
from training.methods.ppo.kl_controller import KlController, k3
from training.methods.ppo.learning_rates import ActorCriticLrMultipliers
from training.methods.ppo.losses import policy_losses, value_losses
from training.methods.ppo.rollout import RolloutBatch, Transition
from training.methods.ppo.rollout_metrics import logged_answer, rollout_metrics
from training.methods.ppo.sampler import RolloutSampler
from training.methods.ppo.stop_rules import DivergenceMonitor
from training.models.generate import uniforms
from training.trainer.context import TrainerContext
from training.trainer.lr_groups import LrMultipliers
from training.trainer.metrics import Sums, means
from training.trainer.sample_order import RolloutOrder
from training.trainer.seed import preserve_rng_state

_TRAINING, _HELD_OUT = 0, 1
"""Parts of the seed that separate the random numbers of training and held-out answers."""
_LOGGED_ANSWERS = 4
"""Answers that are logged of each rollout and of each evaluation."""
_TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}
"""Mean deviation allowed between two computations of the same log-probabilities, by precision."""


class PpoTrainer(PpoCheckpointMixin, Trainer):
    """PPO trainer of a policy and its critic.

    Args:
        setup: Context of the training run.
        model: Policy and critic.
        trainer_arguments: Arguments of Transformers' trainer.

    Attributes:
        sampler: Samples answers; set by `build`, because it needs the trainer's engine.
        rollout: Rollout in training; None before the first.
        rollout_number: Its number; -1 before the first.
        rollout_metrics: Its metrics, which each of its steps logs.
    """

    # The loss is divided by the actions of the complete step: Transformers must not divide again.
    loss_is_scaled_for_ga = True
    sampler: RolloutSampler

    def __init__(self, *, setup: TrainerContext, model: ActorCritic, **trainer_arguments: Any):
        assert isinstance(setup.job.method, Ppo)
        assert isinstance(setup.order, RolloutOrder)
        self.method: Ppo = setup.job.method
        self.rollout_order: RolloutOrder = setup.order
        kl = self.method.kl
        self.kl_controller = KlController(
            kl.coefficient,
            kl.target if kl.adaptive else None,
            integral=kl.integral,
            proportional=kl.proportional,
        )
        self.monitor = DivergenceMonitor(self.method)
        self.rollout: RolloutBatch | None = None
        self.rollout_number = -1
        self.rollout_metrics: dict[str, float] = {}
        self.rollout_log = RolloutLog(setup.folder, setup.world.is_main_process)
        self._held_out_answers: list[LoggedAnswer] = []
        super().__init__(setup=setup, model=model, **trainer_arguments)

    @property
    def trained_model(self) -> Any:
        """The policy; the critic is not part of the result."""
        actor_critic: ActorCritic = super().trained_model
        return actor_critic.policy

    def make_lr_multipliers(self, names: list[str]) -> LrMultipliers:
        """Return the learning rates of policy and critic."""
        return ActorCriticLrMultipliers(self.setup.job, names, self.setup.order.max_steps)

    def run(self, checkpoint: Path | None, facts: dict[str, Any] | None) -> None:
        """Train to the end, then freeze the critic's adapter, which is not saved.

        Args:
            checkpoint: Checkpoint to resume from, if any.
            facts: Its recorded facts.
        """
        super().run(checkpoint, facts)
        policy = self.trained_model
        if hasattr(policy, "peft_config"):
            policy.set_adapter(policy.active_adapter)

    # --- optimizer steps --------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a placeholder for each micro-batch: their content is sampled in training."""
        setup = self.setup
        per_step = setup.world.size * setup.micro_batch_size
        count = self.rollout_order.max_steps * (self.rollout_order.global_batch_size // per_step)
        return DataLoader(range(count), batch_size=1)  # type: ignore[arg-type]  # has len and items

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """Return this process's micro-batches of a step, and the actions of the complete step.

        Args:
            epoch_iterator: Placeholders of the micro-batches.
            num_batches: Micro-batches of the step.
            device: Device of the count.
        """
        for _ in range(num_batches):
            next(epoch_iterator)
        step = int(self.state.global_step)
        if self.rollout_order.round_at(step) != self.rollout_number:
            self._start_rollout(step)
        assert self.rollout is not None
        indices = self.rollout_order.positions_at(step)
        actions = self.rollout.count_learned(indices)
        self.extra = dict(self.rollout_metrics)
        batches = [self._micro_batch(part) for part in self._split(indices)]
        return batches, torch.tensor(max(actions, 1), device=device)

    def _split(self, indices: list[int]) -> Iterator[list[int]]:
        """Yield the answers of this process's micro-batches; similar lengths go together."""
        assert self.rollout is not None
        world, size = self.setup.world, self.setup.micro_batch_size
        lengths = self.rollout.sequence_lengths
        ordered = sorted(indices, key=lambda index: (-int(lengths[index]), index))
        global_size = world.size * size
        for first in range(0, len(ordered), global_size):
            yield ordered[first + world.rank : first + global_size : world.size]

    def _micro_batch(self, indices: list[int]) -> dict[str, Any]:
        assert self.rollout is not None
        batch: dict[str, Any] = dict(self.rollout.batch(indices))
        batch["sequence_lengths"] = self.rollout.sequence_lengths[indices]
        batch["num_tokens"] = int(batch["sequence_lengths"].sum())
        rows = self.rollout_order.rows_in_round(self.rollout_number)
        batch["row_ids"] = [
            row_id for index in indices for row_id in self.setup.table[rows[index]]["ids"]
        ]
        return batch

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Return the contribution of a micro-batch to the mean loss over the step's actions.

        Args:
            model: Policy and critic, wrapped by the engine.
            inputs: Micro-batch of `RolloutBatch.batch`.
            return_outputs: Not used.
            num_items_in_batch: Actions of the step, over all processes.
        """
        assert num_items_in_batch is not None
        outputs = model(inputs["input_ids"], inputs["position_ids"], inputs["labels"])
        method, critic = self.method, self.method.critic
        policy_loss, ratio = policy_losses(
            outputs.log_probs,
            inputs["old_log_probs"],
            inputs["advantages"],
            clip_low=method.clip_low,
            clip_high=method.clip_high,
        )
        clip = None if critic.clip == "none" else critic.clip
        value_loss = value_losses(outputs.values, inputs["values"], inputs["returns"], clip=clip)
        self._add_loss_metrics(policy_loss, value_loss, ratio)
        moved = k3(inputs["old_log_probs"], outputs.log_probs.detach())
        self.add_metric("moved", moved.sum(), len(ratio))
        loss = (policy_loss.sum() + critic.coefficient * value_loss.sum()) / num_items_in_batch
        # Times the number of processes, because data parallelism averages their gradients.
        return loss * self.accelerator.num_processes

    def _add_loss_metrics(self, policy_loss: Tensor, value_loss: Tensor, ratio: Tensor) -> None:
        count = len(ratio)
        clipped = (ratio < 1 - self.method.clip_low) | (ratio > 1 + self.method.clip_high)
        for name, per_action in {
            "policy_loss": policy_loss.detach(),
            "value_loss": value_loss.detach(),
            "ratio": ratio.detach(),
            "clipped": clipped.float(),
        }.items():
            self.add_metric(name, per_action.sum(), count)
        if count and int(self.state.global_step) % self.rollout_order.steps_per_round == 0:
            self._check_first_ratio(float((ratio.detach() - 1).abs().mean()))

    def _check_first_ratio(self, deviation: float) -> None:
        """Check that the ratio is 1 in the first step on a rollout, before the policy has changed.

        Raises:
            GuardError: It is not: training and sampling do not evaluate the same function.
        """
        # "not <=" rather than ">", so that NaN raises too.
        if not deviation <= _TOLERANCE[self.setup.job.precision]:
            raise GuardError(
                f"step {int(self.state.global_step) + 1}: the policy has not changed since it "
                f"answered, yet its probabilities differ by {deviation:.2g} of themselves on "
                f"average (the ratio should be 1). Something in the model is random (dropout) or "
                f"depends on how answers are batched"
            )

    # --- rollouts ---------------------------------------------------------------------------

    def _start_rollout(self, step: int) -> None:
        """Sample the next rollout and compute its advantages."""
        began = time.monotonic()
        number = self.rollout_order.round_at(step)
        gathered = self.setup.control.all_gather(self._sample_share(number))
        # Process r answered the prompts r, r + world size, …: interleave to restore their order.
        transitions = [transition for group in zip(*gathered, strict=True) for transition in group]
        metrics = rollout_metrics(transitions)
        self._check_reference(metrics, number)
        if number:
            # The first rollout is from the reference itself: it says nothing about the coefficient.
            self.kl_controller.update(metrics["kl"])
        self.rollout = RolloutBatch.from_transitions(
            transitions,
            kl_coefficient=self.kl_controller.coefficient,
            gamma=self.method.gamma,
            lam=self.method.lam,
            drop_truncated=self.method.rollout.truncated == "drop",
        )
        self.rollout_number = number
        self.rollout_metrics = metrics | {
            "kl_coefficient": self.kl_controller.coefficient,
            "explained_variance": self.rollout.explained_variance,
        }
        self.rollout_metrics["rollout_seconds"] = time.monotonic() - began
        self.rollout_metrics["sampling_seconds"] = self.sampler.sampling_seconds
        self.rollout_log.append(step, [logged_answer(t) for t in transitions[:_LOGGED_ANSWERS]])
        lowest, highest = metrics["reward_min"], metrics["reward_max"]
        steps = self.rollout_order.steps_per_round
        self.sampler.rewards.check_varies(lowest, highest, step, steps)
        self.monitor.check(metrics, step + 1)

    def _sample_share(self, number: int) -> list[Transition]:
        """Return the answers to this process's share of the prompts."""
        world = self.setup.world
        rows = self.rollout_order.rows_in_round(number)
        indices = range(world.rank, len(rows), world.size)
        examples = [self.setup.table[rows[index]] for index in indices]
        batch: dict[str, Any] = dict(self.setup.collate(examples))
        # Random numbers belong to the position of a prompt, so that the answers do not depend on
        # the number of processes, nor on whether the run was resumed.
        seed = (self.setup.job.train.seed, _TRAINING, number)
        draws = uniforms(seed, indices, self.method.max_new_tokens)
        with preserve_rng_state():
            return self.sampler.sample_transitions(batch["prompt_ids"], batch["prompt_rows"], draws)

    def _check_reference(self, metrics: dict[str, float], number: int) -> None:
        """Check that the policy equals its reference in the first rollout.

        Raises:
            GuardError: They differ.
        """
        tolerance = _TOLERANCE[self.setup.job.precision]
        if number == 0 and not abs(metrics["kl_token"]) <= tolerance:
            raise GuardError(
                f"before its first step the policy is {metrics['kl_token']:.3g} nats a token from "
                f"its reference; they should be the same model. The two were loaded differently"
            )

    # --- held-out prompts -------------------------------------------------------------------

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of the policy's answers to a batch of held-out prompts."""
        if not batch["prompt_rows"]:
            if self.setup.job.sharding.zero == 3:
                # Gathering the weights for sampling takes all processes: sample a dummy answer.
                self._sample_held_out(self.setup.collate([self.setup.table[0]]))
            return {}
        transitions = self._sample_held_out(batch)
        missing = _LOGGED_ANSWERS - len(self._held_out_answers)
        self._held_out_answers += [logged_answer(t) for t in transitions[:missing]]
        metrics, count = rollout_metrics(transitions), float(len(transitions))
        names = ("reward", "kl", "answer_tokens", "ended", "repetition")
        return {"loss": (-metrics["reward"] * count, count)} | {
            name: (metrics[name] * count, count) for name in names
        }

    def _sample_held_out(self, batch: dict[str, Any]) -> list[Transition]:
        """Return answers to held-out prompts, with the same random numbers in each evaluation."""
        seed = (self.setup.job.train.seed, _HELD_OUT)
        rows = batch["prompt_rows"]
        ids = [zlib.crc32(row.id.encode()) for row in rows]
        draws = uniforms(seed, ids, self.method.max_new_tokens)
        return self.sampler.sample_transitions(batch["prompt_ids"], rows, draws)

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the means; `loss` is the negative reward, so that lower is better."""
        step = int(self.state.global_step)
        self.rollout_log.append(step, self._held_out_answers, held_out=True)
        self._held_out_answers = []
        return {**means(sums), "rows": float(sums["loss"][1])}
