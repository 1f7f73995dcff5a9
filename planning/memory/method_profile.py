"""Profile of a step whose extra models are looked up: what the memory simulation works on."""

from __future__ import annotations

from dataclasses import dataclass

from planning.memory.adapters import FourBitLayout
from planning.model_shape import ModelShape
from training.config.step_profile import CriticKind, StepHead
from training.config.step_profile import RolloutProfile as RolloutProfile

Head = StepHead


@dataclass(frozen=True)
class AuxModel:
    """Second model that is only run forward.

    Attributes:
        shape: Shape of the model; None for that of the trained model.
        low: True if its weights have the job's precision even when the trained model keeps fp32.
        four_bit: Layout of its 4-bit weights; None if it has none.
        full_distribution: True if its whole distribution is kept for the loss.
        scores: True if it returns one number per text.
        same: True if it is the trained model with its adapter off, which takes no memory.
    """

    shape: ModelShape | None = None
    low: bool = False
    four_bit: FourBitLayout | None = None
    full_distribution: bool = False
    scores: bool = False
    same: bool = False


@dataclass(frozen=True)
class MethodProfile:
    """Costs of a method in one step; see `training.config.step_profile.StepProfile`.

    Attributes:
        head: Computation on the last hidden states.
        sequences: Sequences per row; 2 for a pair.
        frozen: Reference or teacher.
        rollout: Answers to sample.
        known: Tokens per position of a teacher's distribution that come with the batch.
        divergence: Divergence of a student from its teacher.
        critic: Value model trained next to the policy.
        scorers: Shapes of the reward models, in memory while the policy is trained.
        anchored: True if the squared distance from the start is part of the loss (L2-SP).
    """

    head: Head = "next tokens"
    sequences: int = 1
    frozen: AuxModel | None = None
    rollout: RolloutProfile | None = None
    known: int = 0
    divergence: str = ""
    critic: CriticKind = ""
    scorers: tuple[ModelShape, ...] = ()
    anchored: bool = False


PLAIN = MethodProfile()
"""Next tokens of single sequences, as pre-training and fine-tuning learn them."""
