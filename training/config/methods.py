"""`method:` what is learned. The union is the registry: a class names the code that builds it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from training.config.constitutional import Constitutional
from training.config.distill_text import DistillText
from training.config.locations import ModelLocation
from training.config.method_base import MethodSection, RowKind
from training.config.online_rl import Grpo, Rloo
from training.config.ppo import Ppo
from training.config.preference_methods import Dpo, Kto, Orpo, RewardModeling, Simpo
from training.config.types import PositiveFloat, PositiveInt, Share


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


class Distill(MethodSection):
    """Learn from a larger model's probabilities (Hinton et al. 2015, arXiv:1503.02531)."""

    impl = "training.methods.distill:build"
    title = "Distillation"

    kind: Literal["distill"]
    teacher: ModelLocation
    """A folder or Hub id of a model with the student's vocabulary."""
    teacher_revision: str | None = None
    """Branch, tag or commit on the Hub."""
    teacher_4bit: bool = False
    """Load the teacher in 4 bits."""
    loss_on: Literal["assistant", "completion", "all"] | None = None
    """What is learned of dialogues, as for `sft`. Left out, rows are plain text."""
    divergence: Literal["forward_kl", "reverse_kl", "js"] = "forward_kl"
    """How the student's distribution is compared with the teacher's."""
    temperature: PositiveFloat = 1.0
    """What both models' logits are divided by before they are compared. Above 1 the unlikely tokens
    count for more, which in short runs costs more than it teaches (docs/distillation.md)."""
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


Method = Annotated[
    Pretrain
    | Sft
    | Distill
    | DistillText
    | RewardModeling
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
