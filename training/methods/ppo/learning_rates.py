"""The critic learns at a rate of its own, and from the start; the policy may wait for it."""

from __future__ import annotations

from collections.abc import Sequence

from training.config import Job
from training.config.ppo import Ppo
from training.methods.ppo.actor_critic import is_critics
from training.trainer.lr_groups import LrMultiplier, LrMultipliers

_FASTER = 3.0
"""How much faster a critic learns than its policy where the job leaves it open."""


class ActorCriticLrMultipliers(LrMultipliers):
    """The rates of a policy and its critic.

    Args:
        job: The run.
        names: Of all parameters.
        max_steps: Optimizer steps of the whole run.
    """

    def __init__(self, job: Job, names: list[str], max_steps: int):
        super().__init__(job, names, max_steps)
        assert isinstance(job.method, Ppo)
        critic = job.method.critic
        own = critic.learning_rate
        self._factor = _FASTER if own is None else own / job.train.learning_rate
        # Half a step more, so that the share comes back as this many steps.
        self._wait = (critic.warmup_steps + 0.5) / max_steps if critic.warmup_steps else 0.0

    @property
    def is_uniform(self) -> bool:
        """Whether all parameters learn at one rate from the start."""
        return False

    def multiplier_of(self, name: str) -> LrMultiplier:
        """Return the rate of the parameter called `name`."""
        rate = super().multiplier_of(name)
        if is_critics(name):
            return LrMultiplier(rate.start, rate.factor * self._factor)
        return LrMultiplier(max(rate.start, self._wait), rate.factor)

    def partition(
        self, groups: Sequence[Sequence[str]]
    ) -> list[tuple[int, LrMultiplier, list[str]]]:
        """Divide groups of parameters into such of one rate, the policy's first."""
        divided = super().partition(groups)
        parts = [
            (number, rate, [name for name in names if is_critics(name) == critics])
            for critics in (False, True)
            for number, rate, names in divided
        ]
        return [part for part in parts if part[2]]
