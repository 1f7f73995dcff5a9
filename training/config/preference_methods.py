"""`method:` of rows that compare answers: reward models, DPO and its kin."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from training.config.method_base import MethodSection
from training.config.types import PositiveFloat


class RewardModeling(MethodSection):
    """A reward model: scores that are higher for the answers people preferred."""

    impl = "training.methods.reward:build"
    rows = "preference"
    title = "Reward model"
    head = "score"

    kind: Literal["reward"]
    center_rewards: float = Field(default=0.0, ge=0)
    """How strongly scores are drawn towards a mean of 0, so that they can be compared; 0.01 does
    (Eisenstein et al. 2023, arXiv:2312.09244)."""


DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]


class Dpo(MethodSection):
    """Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290) and its kin."""

    impl = "training.methods.dpo:build"
    rows = "preference"
    title = "Preference tuning (DPO)"

    kind: Literal["dpo"]
    beta: PositiveFloat = 0.1
    """How closely the model is held to what training starts from."""
    loss: DpoLoss = "sigmoid"
    """Named as in TRL: `sigmoid` is DPO's own, then `hinge` (SLiC), `ipo`, `robust`, …"""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the labels taken to be wrong, for `robust`, `exo_pair` and the `aot` losses."""
    precompute: bool = False
    """Compute what the reference makes of every row once, before training: each step is then
    faster, and no second model is kept in memory."""

    @property
    def reads_ahead(self) -> bool:
        """Whether it reads rows out of turn: all of them before the first step."""
        return self.precompute

    @property
    def loss_may_be_zero(self) -> bool:
        """Whether a loss of exactly 0 is nothing to wonder at: every pair is far enough apart."""
        return self.loss == "hinge"

    @model_validator(mode="after")
    def _smoothing(self) -> Dpo:
        smoothed = ("robust", "exo_pair", "aot", "aot_unpaired")
        if self.label_smoothing and self.loss not in smoothed:
            raise ValueError(
                f"loss {self.loss} takes no label_smoothing ({self.label_smoothing:g}). "
                f"{', '.join(smoothed)} do: robust is sigmoid for labels that may be wrong"
            )
        if self.loss == "exo_pair" and not self.label_smoothing:
            raise ValueError("loss exo_pair needs a label_smoothing above 0, such as 0.001")
        return self


class Kto(MethodSection):
    """KTO (Ethayarajh et al. 2024, arXiv:2402.01306): learn from good answers and bad, unpaired."""

    impl = "training.methods.kto:build"
    rows = "unpaired"
    title = "Preference tuning (KTO)"

    kind: Literal["kto"]
    beta: PositiveFloat = 0.1
    """How closely the model is held to what training starts from."""
    desirable_weight: PositiveFloat = 1.0
    """What a good answer counts. Where one kind is rarer, weigh it up: desirable_weight x good
    answers should come to between 1 and 4/3 of undesirable_weight x bad answers."""
    undesirable_weight: PositiveFloat = 1.0
    """What a bad answer counts."""

    @property
    def reads_ahead(self) -> bool:
        """Whether it reads rows out of turn: prompts are joined with other rows' answers."""
        return True


class Orpo(MethodSection):
    """ORPO (Hong et al. 2024, arXiv:2403.07691): likelihood and preference in one loss."""

    impl = "training.methods.orpo:build"
    rows = "preference"
    title = "Preference tuning (ORPO)"

    kind: Literal["orpo"]
    beta: PositiveFloat = 0.1
    """What the odds ratio counts beside the likelihood of the chosen answers."""


class Simpo(MethodSection):
    """SimPO (Meng et al. 2024, arXiv:2405.14734): mean log-probabilities, no reference."""

    impl = "training.methods.simpo:build"
    rows = "preference"
    title = "Preference tuning (SimPO)"

    kind: Literal["simpo"]
    beta: PositiveFloat = 2.0
    """Scale of the rewards, which are mean log-probabilities per token."""
    gamma: float = Field(default=1.0, ge=0)
    """How far the chosen answer's reward should be ahead."""
