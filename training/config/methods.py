"""`method:` what is learned. The union is the registry: a class names the code that builds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from training.config.constitution import Constitution, as_constitution
from training.config.judges import Judge, Local
from training.config.ppo import Critic, Kl, PpoRollout, StopRules, ppo_clashes
from training.config.rewards import Rewards, Rollout
from training.config.section import Section
from training.config.units import PositiveFloat, PositiveInt, Share
from training.errors import Problem

RowKind = Literal["text", "dialogue", "preference", "unpaired", "prompt"]
Head = Literal["language", "score"]
"""What a model puts out: the next token, or one number for a text."""


class MethodSection(Section):
    """What every method declares."""

    impl: ClassVar[str]
    """`module:function` that builds its trainer, imported only when used."""
    rows: ClassVar[RowKind]
    """What kind of row it learns from."""
    title: ClassVar[str]
    """What it is called in a report."""
    head: ClassVar[Head] = "language"
    """What the model puts out."""
    trains: ClassVar[bool] = True
    """Whether it changes the model; else it writes rows, which stages behind it learn from."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled from each prompt while training; 0 where none is."""
        return 0

    @property
    def answers_per_prompt(self) -> int:
        """Answers sampled to each prompt of a step, which `global_batch_size` counts; 0: none."""
        return 0

    @property
    def reads_ahead(self) -> bool:
        """Whether it reads rows out of turn, which a stream cannot give."""
        return self.max_new_tokens > 0

    @property
    def loss_may_be_zero(self) -> bool:
        """Whether a loss of exactly 0 is nothing to wonder at."""
        return self.max_new_tokens > 0

    @property
    def waits_steps(self) -> int:
        """Optimizer steps at the start in which a part of what is trained stays as it is."""
        return 0

    def rounds(self, global_batch_size: int) -> tuple[int, int] | None:
        """Return the rows of a round and how often it is gone through before the next.

        None where every step takes rows of its own.
        """
        return None

    def clashes(self, job: Any) -> Iterator[Problem]:
        """Yield what it cannot go with in the rest of a job."""
        yield from ()


class Pretrain(MethodSection):
    """Predict every next token of plain text: from random weights, or continued."""

    impl = "training.methods.pretrain:build"
    rows = "text"
    title = "Pre-training"

    kind: Literal["pretrain"]


class Sft(MethodSection):
    """Supervised fine-tuning on prompts and answers, or on conversations."""

    impl = "training.methods.sft:build"
    rows = "dialogue"
    title = "Supervised fine-tuning"

    kind: Literal["sft"]
    loss_on: Literal["assistant", "completion", "all"] = "assistant"
    """`assistant`: everything the assistant says. `completion`: its last answer only. `all`: the
    prompts too."""


class Reward(MethodSection):
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


class Distill(MethodSection):
    """Learn from a larger model's probabilities (Hinton et al. 2015, arXiv:1503.02531)."""

    impl = "training.methods.distill:build"
    title = "Distillation"

    kind: Literal["distill"]
    teacher: str
    """A folder or Hub id of a model with the student's vocabulary."""
    teacher_revision: str | None = None
    """Branch, tag or commit on the Hub."""
    teacher_4bit: bool = False
    """Load the teacher in 4 bits."""
    loss_on: Literal["assistant", "completion", "all"] | None = None
    """What is learned of dialogues, as for `sft`. Left out, rows are plain text."""
    divergence: Literal["forward_kl", "reverse_kl", "js"] = "forward_kl"
    """How the student's distribution is compared with the teacher's."""
    temperature: PositiveFloat = 2.0
    """What both models' logits are divided by before they are compared."""
    soft_weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the teacher in the loss; the rest is the labels'."""
    calibrate: bool = True
    """First divide the teacher's logits by the one number at which its own loss on the rows is
    least, so that a student does not learn to be surer than right (arXiv:1706.04599)."""
    top_k: PositiveInt | None = None
    """Keep the teacher's K likeliest tokens for each place in the cache, once; runs on the same
    rows then need no teacher. Left out, the teacher is asked in every step."""
    on_policy: Share = 0.0
    """Share of steps in which the student writes the answers that are compared (GKD, Agarwal et
    al. 2024, arXiv:2306.13649)."""
    answer_tokens: PositiveInt = 128
    """Longest answer the student writes."""

    @property
    def reads_ahead(self) -> bool:
        """Whether it reads rows out of turn: all of them before the first step."""
        return self.top_k is not None

    @property
    def rows(self) -> RowKind:  # type: ignore[override]  # decided by the job
        """What kind of row it learns from."""
        return "dialogue" if self.loss_on else "text"


class Sampling(MethodSection):
    """What the methods share that sample a group of answers to each prompt."""

    rows = "prompt"

    reward: Rewards
    """What makes an answer better: one reward, or a list of them that are added up."""
    num_generations: int = Field(default=8, ge=2)
    """Answers to each prompt. `train.global_batch_size` counts answers, and is a multiple of it."""
    beta: float = Field(default=0.0, ge=0)
    """What straying from the start costs, for each nat; 0 leaves the reference out."""
    rollout: Rollout = Rollout()
    mask_truncated: bool = False
    """Learn nothing from answers that did not end within `rollout.max_new_tokens`."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled from each prompt."""
        return self.rollout.max_new_tokens

    @property
    def answers_per_prompt(self) -> int:
        """Answers sampled to each prompt of a step."""
        return self.num_generations


class Grpo(Sampling):
    """GRPO (Shao et al. 2024, arXiv:2402.03300): a group's answers against their mean."""

    impl = "training.methods.grpo:build"
    title = "Reinforcement learning (GRPO)"

    kind: Literal["grpo"]
    loss: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    """A mean over all tokens of a step (`dapo`), over answers (`grpo`), or over the tokens there
    was room for (`dr_grpo`), which favours neither short answers nor long ones."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Whether advantages are divided by the spread of their group, of the whole step, or not."""


class Rloo(Sampling):
    """RLOO (Ahmadian et al. 2024, arXiv:2402.14740): an answer against the others to its prompt."""

    impl = "training.methods.rloo:build"
    title = "Reinforcement learning (RLOO)"

    kind: Literal["rloo"]
    normalize_advantages: bool = False
    """Whether advantages are brought to a mean of 0 and a spread of 1 over the step."""


class Ppo(MethodSection):
    """Reinforcement learning with a critic (Schulman et al. 2017, arXiv:1707.06347).

    A rollout answers a batch of prompts and scores the answers; what scored better than the critic
    expected becomes likelier, in `epochs` passes over the rollout. A step is an optimizer step.
    """

    impl = "training.methods.ppo:build"
    rows = "prompt"
    title = "Reinforcement learning (PPO)"

    kind: Literal["ppo"]
    reward: Rewards
    rollout: PpoRollout = PpoRollout()
    kl: Kl = Kl()
    epochs: PositiveInt = 2
    """How often each rollout is gone through."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """How far below 1 the ratio of new to old probability still counts."""
    clip_high: PositiveFloat = 0.2
    """How far above 1 it still counts."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount of a token."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """λ of the advantages: 0 trusts the critic alone, 1 only what was seen."""
    critic: Critic = Critic()
    stop: StopRules = StopRules()

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled from each prompt while training."""
        return self.rollout.max_new_tokens

    @property
    def waits_steps(self) -> int:
        """Steps in which only the critic learns."""
        return self.critic.warmup_steps

    def rounds(self, global_batch_size: int) -> tuple[int, int] | None:
        """Return the prompts of a rollout, and how often it is gone through."""
        return self.rollout.batch or global_batch_size, self.epochs

    def clashes(self, job: Any) -> Iterator[Problem]:
        """Yield what it cannot go with in the rest of a job."""
        yield from ppo_clashes(self, job)


class Answers(Section):
    """How answers are sampled that are then judged."""

    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens."""
    temperature: PositiveFloat = 1.0


class Constitutional(MethodSection):
    """Constitutional AI (Bai et al. 2022, arXiv:2212.08073): a judge and written principles.

    It trains nothing. It answers prompts with the model and writes rows, which a later stage names
    `stage:NAME` in its data: prompts with revised answers (to learn by `sft`), or pairs of answers
    of which a judge prefers the first (for `dpo`, `reward` and their kin).
    """

    impl = "training.methods.constitutional:write"
    rows = "prompt"
    title = "Constitutional AI"
    trains = False

    kind: Literal["constitutional"]
    writes: Literal["revisions", "preferences"]
    """`revisions`: each answer is criticised and written anew. `preferences`: of two answers the
    better one is chosen, twice, in both orders; pairs that the order decides are left out."""
    constitution: Annotated[Constitution, BeforeValidator(as_constitution)]
    """A YAML file of principles, or the principles themselves."""
    judge: Judge = Local(kind="local")
    """Who criticises, revises and chooses; the model itself when left out."""
    rollout: Answers = Answers()
    turns: PositiveInt = 1
    """Critiques and revisions of each answer, one after another, each by another principle."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled from each prompt."""
        return self.rollout.max_new_tokens

    def clashes(self, job: Any) -> Iterator[Problem]:
        """Yield what it cannot go with in the rest of a job."""
        if job.adapter is not None:
            yield Problem(
                "adapter",
                "constitutional writes rows and trains nothing",
                job.adapter.kind,
                "Leave it out here, and set it in the stage that learns from the rows",
            )
        if self.turns > 1 and self.writes == "preferences":
            yield Problem("method.turns", "is for revisions", str(self.turns), "Leave it out")
        if job.data.validation.wanted:
            yield Problem(
                "data.validation",
                "nothing is measured while rows are written",
                fix="Set it in the stage that learns from them",
            )


Method = Annotated[
    Pretrain
    | Sft
    | Distill
    | Reward
    | Dpo
    | Kto
    | Orpo
    | Simpo
    | Ppo
    | Grpo
    | Rloo
    | Constitutional,
    Field(discriminator="kind"),
]


def title_of(kind: str) -> str:
    """Return what a method is called in a report; its kind where there is none such."""
    union: Any = get_args(Method)[0]
    for section in get_args(union):
        if get_args(section.model_fields["kind"].annotation) == (kind,):
            return str(section.title)
    return kind.upper()
