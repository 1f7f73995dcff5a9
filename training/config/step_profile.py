"""Profile of one training step of a method: what the planner must know to predict its memory.

A method declares it on its config class (`MethodSection.step_profile`), so that the planner has no
list of methods. Models are named here and looked up by the planner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

StepHead = Literal["next tokens", "score", "soft", "answers"]
"""Computation on the last hidden states.

- `next tokens`: log-probabilities (`training/models/fused_log_probs.py`).
- `score`: one number per token (a sequence classifier).
- `soft`: divergence from a teacher's distributions (`training/methods/common/`).
- `answers`: log-probabilities and entropies of sampled answers (TRL's fused head).
"""

CriticKind = Literal["", "own", "shared"]
"""Value model of a method: none, a second model, or one more adapter on the policy."""


@dataclass(frozen=True)
class StepSpec:
    """Size of a step on one device, which decides how many answers a rollout samples.

    Attributes:
        micro_batch_size: Rows of a micro-batch.
        rows_per_device: Rows of a step on each device.
        max_prompt_tokens: Tokens of the longest prompt.
    """

    micro_batch_size: int = 1
    rows_per_device: int = 1
    max_prompt_tokens: int = 1


ONE_ROW = StepSpec()


@dataclass(frozen=True)
class RolloutProfile:
    """Answers that are sampled at the start of a step.

    Attributes:
        answers: Answers sampled at the same time on each device.
        prompt: Tokens of the longest prompt.
        new: Tokens of the longest answer.
        top_k: True if sampling is limited to the most likely tokens.
        top_p: True if sampling is limited to a share of the probability.
    """

    answers: int
    prompt: int
    new: int
    top_k: bool = False
    top_p: bool = False


@dataclass(frozen=True)
class ExtraModel:
    """Second model that a step needs and does not train: a reference, a teacher or a scorer.

    Attributes:
        source: Folder or Hub id; empty for the architecture of the trained model.
        revision: Branch, tag or commit on the Hub.
        key: Key of the job that names it, for messages.
        in_job_precision: True if its weights have the job's precision even when the trained model
            keeps fp32 weights.
        quantized: True if its weights are loaded in 4 bits.
        full_distribution: True if its whole distribution is kept for the loss.
        scores: True if it returns one number per text.
        same_weights: True if it is the trained model with its adapter off, which takes no memory.
        backbone: Own weights, or an adapter on the policy's (`auto`: where that is possible).
    """

    source: str = ""
    revision: str | None = None
    key: str = ""
    in_job_precision: bool = False
    quantized: bool = False
    full_distribution: bool = False
    scores: bool = False
    same_weights: bool = False
    backbone: Literal["auto", "own", "shared"] = "own"


@dataclass(frozen=True)
class StepProfile:
    """Costs of a method in one step.

    Attributes:
        head: Computation on the last hidden states.
        sequences: Sequences per row; 2 for a pair.
        frozen: Reference or teacher.
        rollout: Answers to sample.
        known: Tokens per position of a teacher's distribution that come with the batch.
        divergence: Divergence of a student from its teacher.
        critic: Value model trained next to the policy.
        scorers: Reward models, in memory while the policy is trained.
        anchored: True if the squared distance from the start is part of the loss (L2-SP).
    """

    head: StepHead = "next tokens"
    sequences: int = 1
    frozen: ExtraModel | None = None
    rollout: RolloutProfile | None = None
    known: int = 0
    divergence: str = ""
    critic: CriticKind = ""
    scorers: tuple[ExtraModel, ...] = ()
    anchored: bool = False


def next_token_profile(job: Any) -> StepProfile:
    """Return the profile of learning next tokens, with the penalties for forgetting of the job."""
    anchored = job.train.l2_sp > 0
    if not job.train.kl_to_base:
        return StepProfile(anchored=anchored)
    base = ExtraModel(full_distribution=True, same_weights=job.adapter is not None)
    return StepProfile(head="soft", frozen=base, divergence="forward_kl", anchored=anchored)


def reference_model(job: Any) -> ExtraModel | None:
    """Return the frozen copy of the start; None with an adapter, which is switched off instead."""
    return ExtraModel() if job.adapter is None else None
