"""Learning rates of PPO: the critic has a rate of its own, and may train alone at first."""

from __future__ import annotations

from collections.abc import Sequence

from training.config import Job
from training.config.ppo import Ppo
from training.methods.ppo.actor_critic import is_critic_parameter
from training.trainer.lr_groups import LrMultiplier, LrMultipliers

_DEFAULT_CRITIC_FACTOR = 3.0
"""Critic's learning rate relative to the policy's if the job sets none."""


class ActorCriticLrMultipliers(LrMultipliers):
    """Learning rates of a policy and its critic.

    Args:
        job: Job with the rates.
        names: Names of all parameters.
        max_steps: Optimizer steps of the complete run.
    """

    def __init__(self, job: Job, names: list[str], max_steps: int):
        super().__init__(job, names, max_steps)
        assert isinstance(job.method, Ppo)
        critic = job.method.critic
        rate = critic.learning_rate
        relative = None if rate is None else rate / job.train.learning_rate
        self._critic_factor = _DEFAULT_CRITIC_FACTOR if relative is None else relative
        # The start is a share of the run, converted to steps again later: half a step more, so
        # that rounding does not lose one.
        warmup = critic.warmup_steps
        self._policy_start = (warmup + 0.5) / max_steps if warmup else 0.0

    @property
    def is_uniform(self) -> bool:
        """False: policy and critic have different rates."""
        return False

    def multiplier_of(self, name: str) -> LrMultiplier:
        """Return the learning rate of a parameter."""
        rate = super().multiplier_of(name)
        if is_critic_parameter(name):
            return LrMultiplier(rate.start, rate.factor * self._critic_factor)
        return LrMultiplier(max(rate.start, self._policy_start), rate.factor)

    def partition(
        self, groups: Sequence[Sequence[str]]
    ) -> list[tuple[int, LrMultiplier, list[str]]]:
        """Divide parameter groups into groups of one rate each, those of the policy first."""
        divided = super().partition(groups)
        parts = [
            (number, rate, [name for name in names if is_critic_parameter(name) == of_critic])
            for of_critic in (False, True)
            for number, rate, names in divided
        ]
        return [part for part in parts if part[2]]
