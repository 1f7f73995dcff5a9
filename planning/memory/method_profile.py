"""What a method adds to a step: other models, more sequences to a row, answers that are sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planning.memory.adapters import FourBitLayout
from planning.model_shape import ModelShape

Head = Literal["next tokens", "score", "soft", "answers"]
"""What is made of the last hidden states.

- `next tokens`: log-probabilities (`training/models/fused_log_probs.py`).
- `score`: one number a token (a sequence classifier).
- `soft`: the distance from a teacher's distributions (`training/methods/common/distillation_head.py`).
- `answers`: log-probabilities and entropies of sampled answers (TRL's fused head).
"""


@dataclass(frozen=True)
class AuxModel:
    """A second model that is only asked.

    Attributes:
        shape: None for the trained model's own.
        low: Whether it lies in the job's precision even where the trained model is in fp32.
        four_bit: Whether, and how, it rests in 4 bits.
        speaks: Whether whole distributions are asked for, and kept for the loss.
        scores: Whether it puts out one number for a text.
        same: Whether it is the trained model with its adapter off, and takes no bytes to lie there.
    """

    shape: ModelShape | None = None
    low: bool = False
    four_bit: FourBitLayout | None = None
    speaks: bool = False
    scores: bool = False
    same: bool = False


Critic = Literal["", "own", "shared"]
"""What learns how good an answer will turn out: a second model, or one more adapter."""


@dataclass(frozen=True)
class RolloutProfile:
    """Answers that are sampled at the start of a step.

    Attributes:
        answers: At once, on each device.
        prompt: Tokens of the longest prompt.
        new: Tokens of the longest answer.
        top_k: Whether only so many likeliest tokens are sampled from.
        top_p: Whether only a share of the probability is.
    """

    answers: int
    prompt: int
    new: int
    top_k: bool = False
    top_p: bool = False


@dataclass(frozen=True)
class MethodProfile:
    """What a method does in a step.

    Attributes:
        head: What is made of the last hidden states.
        sequences: Sequences of a row: two of a pair.
        frozen: A reference or a teacher.
        rollout: Answers to sample.
        known: Tokens of a teacher's distribution that a batch brings with it, for each token.
        divergence: How a student is compared with its teacher.
        critic: What learns beside the policy.
        scorers: Reward models, which lie there while the policy learns.
        anchored: Whether the squared distance from the start is a part of the loss.
    """

    head: Head = "next tokens"
    sequences: int = 1
    frozen: AuxModel | None = None
    rollout: RolloutProfile | None = None
    known: int = 0
    divergence: str = ""
    critic: Critic = ""
    scorers: tuple[ModelShape, ...] = ()
    anchored: bool = False


PLAIN = MethodProfile()
"""Next tokens of single sequences, as pre-training and fine-tuning learn them."""
