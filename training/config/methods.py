"""Section `method:` and the union of all methods.

The union is the registry: a class in it names the function that builds its trainer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from training.config.constitutional import Constitutional
from training.config.distill import Distill
from training.config.distill_text import DistillText
from training.config.method_base import MethodSection
from training.config.online_rl import Grpo, Rloo
from training.config.ppo import Ppo
from training.config.preference_methods import Dpo, Kto, Orpo, RewardModeling, Simpo
from training.config.step_profile import StepProfile, StepSpec, next_token_profile


class Pretrain(MethodSection):
    """Next-token prediction on plain text, from random weights or continued."""

    impl = "training.methods.pretrain:build"
    rows = "text"
    title = "Pre-training"

    kind: Literal["pretrain"]

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of learning next tokens."""
        return next_token_profile(job)


class Sft(MethodSection):
    """Supervised fine-tuning on prompts and answers, or on conversations."""

    impl = "training.methods.sft:build"
    rows = "dialogue"
    title = "Supervised fine-tuning"

    kind: Literal["sft"]
    loss_on: Literal["assistant", "completion", "all"] = "assistant"
    """Tokens in the loss. `assistant`: every turn of the assistant. `completion`: its last turn.
    `all`: the prompts too."""

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of learning next tokens."""
        return next_token_profile(job)


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


def method_classes() -> list[type[MethodSection]]:
    """Return the config class of every method, in the order of the union."""
    union: Any = get_args(Method)[0]
    return list(get_args(union))


def method_class(kind: str) -> type[MethodSection] | None:
    """Return the config class of a method; None if there is no such kind."""
    for section in method_classes():
        if get_args(section.model_fields["kind"].annotation) == (kind,):
            return section
    return None


def title_of(kind: str) -> str:
    """Return the name of a method in a report; its kind in capitals if it is unknown."""
    section = method_class(kind)
    return kind.upper() if section is None else section.title
