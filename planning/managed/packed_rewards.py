"""Rewards that a Lambda function can compute, with the files that it needs for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planning.managed.import_closure import ImportClosure, import_closure
from training.config.rewards import RewardSection
from training.errors import Problem

STAND_INS = ("regex",)
"""Packages in whose place a function has a file of its own."""
_REASONS = {
    "code_tests": "it runs programs that a model wrote, and a function has no sandbox that keeps "
    "them from its credentials and from the network",
    "judge": "it calls a model for each answer, and the cost of the calls could not be limited",
    "model": "it computes scores with torch on the weights of a reward model",
}
_FIX = "Write the ARN of a function of your own in resources.grader"
_OWN = ", or use --target sagemaker, where every reward works"


def reward_problems(rewards: Sequence[RewardSection], *, is_public: bool) -> Iterator[Problem]:
    """Yield a problem for each reward that a Lambda function cannot compute.

    Args:
        rewards: Rewards of a method.
        is_public: Whether the model can be trained on machines of one's own, too.
    """
    fix = f"{_FIX}{_OWN * is_public}"
    for index, section in enumerate(rewards):
        kind = _kind(section)
        reason = _REASONS.get(kind) or _missing_packages(reward_files([section]))
        if reason:
            key = f"method.reward.{index}" if len(rewards) > 1 else "method.reward"
            yield Problem(key, f"cannot be packed as a Lambda function: {reason}", kind, fix)


def reward_files(rewards: Sequence[RewardSection]) -> ImportClosure:
    """Return the modules and the packages that rewards and their sum need."""
    modules = [section.impl.partition(":")[0] for section in rewards]
    return import_closure(["training.rewards.aggregate", *modules])


def _missing_packages(closure: ImportClosure) -> str:
    missing = sorted(set(closure.packages) - set(STAND_INS))
    if not missing:
        return ""
    return f"it needs {', '.join(missing)}, which Lambda's Python does not have"


def _kind(section: RewardSection) -> str:
    return str(section.kind)  # type: ignore[attr-defined]  # every section of a job has one
