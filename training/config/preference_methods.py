"""Section `method:` of methods that learn from compared answers: reward models, DPO and others."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from training.config.method_base import MethodSection
from training.config.metric_labels import LOG_PROBS, PAIRS, Labels, MetricLabel
from training.config.step_profile import StepProfile, StepSpec, reference_model
from training.config.types import PositiveFloat


class RewardModeling(MethodSection):
    """Reward model: a sequence classifier that scores preferred answers higher."""

    impl = "training.methods.reward:build"
    rows = "preference"
    title = "Reward model"
    head = "score"
    weighs_pairs = True
    metrics: ClassVar[Labels] = {
        **PAIRS,
        "mean_score": MetricLabel("mean score", "", 3),
        "length_correlation": MetricLabel("correlation of score and length", "", 2),
        "longer_scored_higher": MetricLabel("longer answer scored higher, share of pairs", "", 2),
        "longer_was_chosen": MetricLabel("longer answer was the chosen one, share of pairs", "", 2),
    }

    kind: Literal["reward"]
    center_rewards: float = Field(default=0.0, ge=0)
    """Weight of a penalty that centers scores at 0, so that they can be compared; 0.01 is enough
    (Eisenstein et al. 2023, arXiv:2312.09244)."""

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of scoring both answers of a pair."""
        return StepProfile(head="score", sequences=2)


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
    """Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290) and its variants."""

    impl = "training.methods.dpo:build"
    rows = "preference"
    title = "Preference tuning (DPO)"
    metrics: ClassVar[Labels] = {**PAIRS, **LOG_PROBS}

    kind: Literal["dpo"]
    beta: PositiveFloat = 0.1
    """Strength of the implicit KL penalty that keeps the model near the reference."""
    loss: DpoLoss = "sigmoid"
    """Loss, named as in TRL: `sigmoid` (DPO), `hinge` (SLiC), `ipo`, `robust`, …"""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the labels assumed to be wrong, for `robust`, `exo_pair` and the `aot` losses."""
    precompute: bool = False
    """Compute the reference's log-probabilities once, before training: steps are faster, and no
    second model stays in memory."""

    @property
    def reads_ahead(self) -> bool:
        """True with `precompute`: all rows are read before the first step."""
        return self.precompute

    @property
    def loss_may_be_zero(self) -> bool:
        """True for the hinge loss, which is 0 once every pair has its margin."""
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

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of a pair, and of the reference unless it is precomputed."""
        return StepProfile(sequences=2, frozen=None if self.precompute else reference_model(job))


class Kto(MethodSection):
    """KTO (Ethayarajh et al. 2024, arXiv:2402.01306): unpaired good and bad answers."""

    impl = "training.methods.kto:build"
    rows = "unpaired"
    title = "Preference tuning (KTO)"
    min_rows_per_step = 2
    metrics: ClassVar[Labels] = {
        "auc": MetricLabel(
            "good above bad, share of all pairs of the two (AUC)",
            "higher",
            3,
            "Held-out AUC of good answers over bad",
        ),
        "reward_good": MetricLabel("implied reward of a good answer", "", 3),
        "reward_bad": MetricLabel("implied reward of a bad answer", "", 3),
        "margin": PAIRS["margin"],
    }

    kind: Literal["kto"]
    beta: PositiveFloat = 0.1
    """Strength of the implicit KL penalty that keeps the model near the reference."""
    desirable_weight: PositiveFloat = 1.0
    """Weight of a good answer. If one kind is rarer, raise its weight: desirable_weight x good
    answers should be between 1 and 4/3 of undesirable_weight x bad answers."""
    undesirable_weight: PositiveFloat = 1.0
    """Weight of a bad answer."""

    @property
    def reads_ahead(self) -> bool:
        """True: the KL term pairs prompts with the answers of other rows."""
        return True

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of single answers and the reference."""
        return StepProfile(frozen=reference_model(job))


class Orpo(MethodSection):
    """ORPO (Hong et al. 2024, arXiv:2403.07691): likelihood and preference in one loss."""

    impl = "training.methods.orpo:build"
    rows = "preference"
    title = "Preference tuning (ORPO)"
    metrics: ClassVar[Labels] = {
        **PAIRS,
        **LOG_PROBS,
        "nll": MetricLabel("loss per token of the chosen sequences", "lower"),
        "odds_loss": MetricLabel("loss of the odds ratio", "lower"),
    }

    kind: Literal["orpo"]
    beta: PositiveFloat = 0.1
    """Weight of the odds-ratio term, relative to the likelihood of the chosen answers."""

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of a pair; there is no reference."""
        return StepProfile(sequences=2)


class Simpo(MethodSection):
    """SimPO (Meng et al. 2024, arXiv:2405.14734): mean log-probabilities, no reference."""

    impl = "training.methods.simpo:build"
    rows = "preference"
    title = "Preference tuning (SimPO)"
    metrics: ClassVar[Labels] = {**PAIRS, **LOG_PROBS}

    kind: Literal["simpo"]
    beta: PositiveFloat = 2.0
    """Scale of the rewards, which are mean log-probabilities per token."""
    gamma: float = Field(default=1.0, ge=0)
    """Target margin between the rewards of the chosen and the rejected answer."""

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of a pair; there is no reference."""
        return StepProfile(sequences=2)
