"""What each method needs beside the model: a reference, a teacher, answers that are sampled."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planning.hf_config import NamedShape, shape_named
from planning.memory.adapters import FourBitLayout
from planning.memory.method_profile import PLAIN, AuxModel, MethodProfile, RolloutProfile
from planning.model_shape import ModelShape
from training.config import Job
from training.config.methods import Distill, Pretrain, Sft
from training.config.online_rl import Sampling
from training.config.ppo import Ppo
from training.config.preference_methods import Dpo, Kto, Orpo, RewardModeling, Simpo
from training.config.rewards import ModelReward


@dataclass(frozen=True)
class StepSpec:
    """What a step is asked for, as far as sampling goes.

    Attributes:
        rows: Of a micro-batch.
        share: Of a step, on each device.
        longest: Tokens of the longest row.
    """

    rows: int = 1
    share: int = 1
    longest: int = 1


_ONE = StepSpec()


def method_profile(job: Job, asked: StepSpec = _ONE) -> MethodProfile:
    """What the method of a job does in a step.

    Args:
        job: The run.
        asked: How a step is cut up.

    Raises:
        JobError: A model that the method names is not known.
    """
    found = _known(job)
    return PLAIN if found is None else found(job, job.method, asked)


def note_on(job: Job) -> str:
    """What a reader should know where a method is not one that plans know; else nothing."""
    if not job.method.trains:
        return (
            f"method {job.method.kind} trains nothing and needs less than this, which is sft's; "
            f"what calls may cost is said, and held against max_cost, before the first"
        )
    if _known(job) is not None:
        return ""
    return (
        f"method {job.method.kind} is not one that plans know: planned as sft, "
        f"without what it holds beside the model"
    )


def row_tokens(job: Job, longest: int) -> int:
    """Tokens that the longest row is computed as, an answer and both sides of a pair counted."""
    if job.method.max_new_tokens:
        return longest + job.method.max_new_tokens
    return job.data.max_length * method_profile(job).sequences


def _known(job: Job) -> Callable[[Job, Any, StepSpec], MethodProfile] | None:
    return next((_METHODS[kind] for kind in type(job.method).__mro__ if kind in _METHODS), None)


def _plain(job: Job, method: object, asked: StepSpec) -> MethodProfile:
    """Next tokens; held near the start where the job says so (`training/methods/common/regularized.py`)."""
    anchored = job.train.l2_sp > 0
    if not job.train.kl_to_base:
        return replace(PLAIN, anchored=anchored)
    base = AuxModel(speaks=True, same=job.adapter is not None)
    return MethodProfile(head="soft", frozen=base, divergence="forward_kl", anchored=anchored)


def _pairs(job: Job, method: object, asked: StepSpec) -> MethodProfile:
    return MethodProfile(sequences=2)


def _scores(job: Job, method: object, asked: StepSpec) -> MethodProfile:
    return MethodProfile(head="score", sequences=2)


def _dpo(job: Job, method: Dpo, asked: StepSpec) -> MethodProfile:
    return MethodProfile(sequences=2, frozen=None if method.precompute else _reference(job))


def _kto(job: Job, method: Kto, asked: StepSpec) -> MethodProfile:
    return MethodProfile(frozen=_reference(job))


def _distill(job: Job, method: Distill, asked: StepSpec) -> MethodProfile:
    if method.top_k is not None:
        # The teacher's answers are in the cache: its likeliest tokens, and all others as one.
        return MethodProfile(head="soft", known=method.top_k + 1, divergence=method.divergence)
    named = NamedShape(method.teacher, method.teacher_revision, job.name, "method.teacher")
    teacher = AuxModel(
        shape=shape_named(named),
        low=True,
        four_bit=FourBitLayout(True, job.precision, widens=False) if method.teacher_4bit else None,
        speaks=True,
    )
    # Answers of its own are sampled for each micro-batch.
    own = (
        RolloutProfile(asked.rows, asked.longest, method.answer_tokens)
        if method.on_policy
        else None
    )
    return MethodProfile(head="soft", frozen=teacher, divergence=method.divergence, rollout=own)


def _sampling(job: Job, method: Sampling, asked: StepSpec) -> MethodProfile:
    how = method.rollout
    rollout = RolloutProfile(
        asked.share, asked.longest, how.max_new_tokens, how.top_k > 0, how.top_p < 1
    )
    return MethodProfile(
        head="answers",
        frozen=_reference(job) if method.beta else None,
        rollout=rollout,
        scorers=_scorers(job, method.reward),
    )


def _ppo(job: Job, method: Ppo, asked: StepSpec) -> MethodProfile:
    """Policy and critic learn together; reference and reward models lie there meanwhile."""
    soft = job.adapter is not None and job.adapter.soft
    wanted, source = method.critic.backbone, method.critic.source
    shares = job.adapter is not None and not soft and source is None
    shared = wanted == "shared" or (wanted == "auto" and shares)
    at_once = min(asked.share, method.rollout.sampling_batch_size or 8 * asked.rows)
    return MethodProfile(
        head="answers",
        frozen=_reference(job),
        rollout=RolloutProfile(at_once, asked.longest, method.rollout.max_new_tokens),
        critic="shared" if shared else "own",
        scorers=_scorers(job, [one for one in method.reward if not _on_backbone(job, one)]),
    )


def _on_backbone(job: Job, reward: object) -> bool:
    """Whether a reward model is one more adapter on the policy, as `training.rewards.shared_backbone` has.

    Its weights are then a row of the head and the adapter's own, which is not counted.
    """
    if not isinstance(reward, ModelReward) or job.adapter is None or reward.backbone == "own":
        return False
    if job.adapter.kind != "lora" and reward.backbone != "shared":
        return False
    try:
        config = json.loads((Path(reward.source) / "adapter_config.json").read_text())
    except (OSError, ValueError):
        return False
    if config.get("use_dora") and job.sharding.zero == 3:
        return False
    base = Path(str(config.get("base_model_name_or_path")))
    return base.resolve() == Path(job.model.source).resolve() and config.get("peft_type") == "LORA"


def _scorers(job: Job, rewards: Sequence[object]) -> tuple[ModelShape, ...]:
    """The reward models among a method's rewards."""
    named = (
        NamedShape(section.source, None, job.name, "method.reward")
        for section in rewards
        if isinstance(section, ModelReward)
    )
    return tuple(replace(shape_named(model), scores=True) for model in named)


def _reference(job: Job) -> AuxModel | None:
    """A frozen copy of the start; with an adapter, the model with its adapter off serves as one."""
    return AuxModel() if job.adapter is None else None


_METHODS: dict[type, Callable[[Job, Any, StepSpec], MethodProfile]] = {
    Pretrain: _plain,
    Sft: _plain,
    Distill: _distill,
    RewardModeling: _scores,
    Dpo: _dpo,
    Kto: _kto,
    Orpo: _pairs,
    Simpo: _pairs,
    Sampling: _sampling,
    Ppo: _ppo,
}
