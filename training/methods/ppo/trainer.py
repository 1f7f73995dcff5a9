"""PPO as a Transformers trainer: the loop, its engines, guards and checkpoints are everybody's.

An optimizer step learns from a part of the rollout in hand. Where a step begins a new rollout, all
processes first answer its prompts, each a share of them, and tell each other everything.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer

from training.config.ppo import Ppo
from training.errors import GuardError
from training.methods.ppo.actor_critic import ActorCritic, trainable
from training.methods.ppo.kl_controller import KlController, k3
from training.methods.ppo.learning_rates import ActorCriticLrMultipliers
from training.methods.ppo.losses import policy_losses, value_losses
from training.methods.ppo.rollout import RolloutBatch, Transition
from training.methods.ppo.rollout_log import RolloutLog, rollout_facts
from training.methods.ppo.sampler import RolloutSampler
from training.methods.ppo.stop_rules import DivergenceMonitor
from training.models.generate import uniforms
from training.trainer.context import TrainerContext
from training.trainer.exact_trainer import ExactTrainerMixin
from training.trainer.lr_groups import LrMultipliers
from training.trainer.metrics import Sums, means
from training.trainer.sample_order import RolloutOrder
from training.trainer.seed import preserve_rng_state

_TRAINING, _HELD_OUT = 0, 1
"""What answers are sampled for; keeps their chances apart."""
_WEIGHTS, _ROLLOUT = "model.safetensors", "rollout.safetensors"
_SAME = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}
"""How far the ratio of a policy to itself may be off, on average, by precision."""


class PpoTrainer(ExactTrainerMixin, Trainer):
    """Learns from answers of its own.

    Args:
        setup: What the loop needs.
        model: Policy and critic.
        trainer_arguments: As Transformers takes them.
    """

    loss_is_scaled_for_ga = True
    speaker: RolloutSampler

    def __init__(self, *, setup: TrainerContext, model: ActorCritic, **trainer_arguments: Any):
        assert isinstance(setup.job.method, Ppo)
        assert isinstance(setup.order, RolloutOrder)
        self.method: Ppo = setup.job.method
        self.rounds: RolloutOrder = setup.order
        kl = self.method.kl
        self.price = KlController(
            kl.coefficient,
            kl.target if kl.adaptive else None,
            integral=kl.integral,
            proportional=kl.proportional,
        )
        self.watch = DivergenceMonitor(self.method)
        self.rollout: RolloutBatch | None = None
        self.rollout_number = -1
        self.facts: dict[str, float] = {}
        self.said = RolloutLog(setup.folder, setup.world.is_main_process)
        super().__init__(setup=setup, model=model, **trainer_arguments)

    @property
    def trained_model(self) -> Any:
        """The policy: the critic has served."""
        whole: ActorCritic = super().trained_model
        return whole.policy

    def make_lr_multipliers(self, names: list[str]) -> LrMultipliers:
        """Return the policy's rate and the critic's."""
        return ActorCriticLrMultipliers(self.setup.job, names, self.setup.order.max_steps)

    # --- what a step learns from ------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a place-holder for every micro-batch: what they hold is not known beforehand."""
        setup = self.setup
        per_step = setup.world.size * setup.micro_batch_size
        count = self.rounds.max_steps * (self.rounds.global_batch_size // per_step)
        return DataLoader(range(count), batch_size=1)  # type: ignore[arg-type]  # has len and items

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """Return this process's micro-batches of the step, and the actions of the whole step."""
        for _ in range(num_batches):
            next(epoch_iterator)
        step = int(self.state.global_step)
        if self.rounds.round_at(step) != self.rollout_number:
            self._begin_round(step)
        assert self.rollout is not None
        places = self.rounds.positions_at(step)
        actions = self.rollout.tokens_learned(places)
        self.extra = dict(self.facts)
        batches = [self._batch(part) for part in self._dealt(places)]
        return batches, torch.tensor(max(actions, 1), device=device)

    def _dealt(self, places: list[int]) -> Iterator[list[int]]:
        """Yield this process's parts of a step; answers of like length are computed together."""
        assert self.rollout is not None
        world, size = self.setup.world, self.setup.micro_batch_size
        lengths = self.rollout.prompt_lengths + self.rollout.answer_lengths
        places = sorted(places, key=lambda place: (-int(lengths[place]), place))
        wide = world.size * size
        for first in range(0, len(places), wide):
            yield places[first + world.rank : first + wide : world.size]

    def _batch(self, places: list[int]) -> dict[str, Any]:
        assert self.rollout is not None
        batch: dict[str, Any] = dict(self.rollout.batch(places))
        lengths = self.rollout.prompt_lengths + self.rollout.answer_lengths
        batch["num_tokens"] = int(lengths[places].sum())
        rows = self.rounds.rows_in_round(self.rollout_number)
        batch["row_ids"] = [
            name for place in places for name in self.setup.table[rows[place]]["ids"]
        ]
        return batch

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Return this micro-batch's part of the step's loss, a mean over the step's actions."""
        assert num_items_in_batch is not None
        seen = model(inputs["input_ids"], inputs["position_ids"], inputs["labels"])
        old, advantages = inputs["old"], inputs["advantages"]
        method, critic = self.method, self.method.critic
        policy, ratio = policy_losses(
            seen.log_probs,
            old,
            advantages,
            clip_low=method.clip_low,
            clip_high=method.clip_high,
        )
        clip = None if critic.clip == "none" else critic.clip
        value = value_losses(seen.values, inputs["values"], inputs["returns"], clip=clip)
        self._note(policy, value, ratio, seen.log_probs.detach(), old)
        loss = (policy.sum() + critic.coefficient * value.sum()) / num_items_in_batch
        return loss * self.accelerator.num_processes

    def _note(self, policy: Tensor, value: Tensor, ratio: Tensor, new: Tensor, old: Tensor) -> None:
        count = len(ratio)
        clipped = (ratio < 1 - self.method.clip_low) | (ratio > 1 + self.method.clip_high)
        for name, each in {
            "policy_loss": policy.detach(),
            "value_loss": value.detach(),
            "ratio": ratio.detach(),
            "clipped": clipped.float(),
            "moved": k3(old, new),
        }.items():
            self.add_metric(name, each.sum(), count)
        if count and int(self.state.global_step) % self.rounds.steps_per_round == 0:
            self._is_itself(float((ratio.detach() - 1).abs().mean()))

    def _is_itself(self, off: float) -> None:
        """Raise when a policy that has not moved since it spoke does not know its own answers."""
        if not off <= _SAME[self.setup.job.precision]:
            raise GuardError(
                f"step {int(self.state.global_step) + 1}: the policy has not moved since it "
                f"answered, yet its probabilities are off by {off:.2g} of themselves on average "
                f"(the ratio should be 1). Something in the model is random (dropout) or depends "
                f"on how answers are put into batches"
            )

    # --- a new rollout ----------------------------------------------------------------------

    def _begin_round(self, step: int) -> None:
        """Answer the prompts of the next round, and take its advantages."""
        began = time.monotonic()
        number = self.rounds.round_at(step)
        everyone = self.setup.control.all_gather(self._answered(number))
        # Each process answered every so many; here they stand in their places again.
        experiences = [one for dealt in zip(*everyone, strict=True) for one in dealt]
        facts = rollout_facts(experiences)
        self._same_at_the_start(facts, number)
        if number:
            self.price.update(facts["kl"])
        self.rollout = RolloutBatch.of(
            experiences,
            coefficient=self.price.coefficient,
            gamma=self.method.gamma,
            lam=self.method.lam,
            drop_truncated=self.method.rollout.truncated == "drop",
        )
        self.rollout_number = number
        self.facts = facts | {
            "kl_coefficient": self.price.coefficient,
            "explained_variance": self.rollout.explained_variance,
        }
        self.facts["rollout_seconds"] = time.monotonic() - began
        self.facts["sampling_seconds"] = self.speaker.sampling_seconds
        self.said.add(step, experiences)
        lowest, highest = facts["reward_min"], facts["reward_max"]
        self.speaker.rewards.check_varies(lowest, highest, step, self.rounds.steps_per_round)
        self.watch.look(facts, step + 1)

    def _answered(self, number: int) -> list[Transition]:
        """Return this process's share of a round, answered."""
        world = self.setup.world
        rows = self.rounds.rows_in_round(number)
        places = range(world.rank, len(rows), world.size)
        asked = [self.setup.table[rows[place]] for place in places]
        batch: dict[str, Any] = dict(self.setup.collate(asked))
        seed = (self.setup.job.train.seed, _TRAINING, number)
        chance = uniforms(seed, places, self.method.max_new_tokens)
        with preserve_rng_state():
            return self.speaker.experiences(batch["prompt_ids"], batch["prompt_rows"], chance)

    def _same_at_the_start(self, facts: dict[str, float], number: int) -> None:
        """Raise when training does not start from its reference."""
        if number == 0 and not abs(facts["kl_token"]) <= _SAME[self.setup.job.precision]:
            raise GuardError(
                f"before its first step the policy is {facts['kl_token']:.3g} nats a token from "
                f"its reference; they should be the same model. What training starts from and what "
                f"it is kept near to were loaded differently"
            )

    # --- held-out prompts -------------------------------------------------------------------

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return what the policy's answers to held-out prompts come to."""
        if not batch["prompt_rows"]:
            if self.setup.job.sharding.zero == 3:
                # The others cannot gather the weights without this process: it answers too.
                self._held_out(self.setup.collate([self.setup.table[0]]))
            return {}
        experiences = self._held_out(batch)
        self.said.hold(experiences)
        facts, count = rollout_facts(experiences), float(len(experiences))
        names = ("reward", "kl", "answer_tokens", "ended", "repetition")
        return {"loss": (-facts["reward"] * count, count)} | {
            name: (facts[name] * count, count) for name in names
        }

    def _held_out(self, batch: dict[str, Any]) -> list[Transition]:
        """Return answers to held-out prompts, the same at every evaluation but for the policy."""
        seed = (self.setup.job.train.seed, _HELD_OUT)
        rows = batch["prompt_rows"]
        places = [zlib.crc32(row.id.encode()) for row in rows]
        chance = uniforms(seed, places, self.method.max_new_tokens)
        return self.speaker.experiences(batch["prompt_ids"], rows, chance)

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the means over all held-out prompts; `loss` is the reward, to be lowered."""
        self.said.held_out(int(self.state.global_step))
        return {**means(sums), "rows": float(sums["loss"][1])}

    # --- checkpoints ------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        """Return the price of a nat, what the rules have seen, and the rollout in hand."""
        return {
            "price": self.price.state_dict(),
            "watch": self.watch.state_dict(),
            "rewards": self.speaker.rewards.state_dict(),
            "round": self.rollout_number,
            "facts": self.facts,
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from `extra_state`."""
        self.price.load_state_dict(state["price"])
        self.watch.load_state_dict(state["watch"])
        self.speaker.rewards.load_state_dict(state["rewards"])
        self.rollout_number, self.facts = int(state["round"]), dict(state["facts"])

    def on_engine_ready(self, number: int) -> None:
        """Forget what was said after the checkpoint: it is said again."""
        self.said.forget_after(number)

    def save_extra_files(self, checkpoint: Path) -> None:
        """Write the rollout in hand: a checkpoint may fall between two of its steps."""
        assert self.rollout is not None
        save_file(self.rollout.state_dict(), checkpoint / _ROLLOUT)

    def load_extra_files(self, checkpoint: Path) -> None:
        """Take the rollout in hand up again."""
        self.rollout = RolloutBatch.from_state_dict(load_file(checkpoint / _ROLLOUT))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write what learns; what is frozen lies where it was loaded from."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {n: p.detach().cpu().contiguous() for n, p in trainable(self.model).items()}
        save_file(tensors, folder / _WEIGHTS)

    def _load_from_checkpoint(self, checkpoint: str, model: nn.Module | None = None) -> None:
        if self._reshard_from is not None:
            return
        tensors = load_file(Path(checkpoint) / _WEIGHTS)
        with torch.no_grad():
            for name, parameter in trainable(self.model).items():
                parameter.copy_(tensors[name])

    def run(self, checkpoint: Path | None, facts: dict[str, Any] | None) -> None:
        """Train to the end; then let go of the critic's adapter, which is not saved."""
        super().run(checkpoint, facts)
        policy = self.trained_model
        if hasattr(policy, "peft_config"):
            policy.set_adapter(policy.active_adapter)
