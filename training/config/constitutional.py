"""Section `method: {kind: constitutional}`: rows written by a judge and principles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from training.config.base import ConfigSection
from training.config.constitution import Constitution, as_constitution
from training.config.judges import AnyJudge, LocalJudge
from training.config.method_base import MethodSection
from training.config.types import PositiveFloat, PositiveInt
from training.errors import Problem


class Answers(ConfigSection):
    """Settings of how the answers to be judged are sampled."""

    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens."""
    temperature: PositiveFloat = 1.0


class Constitutional(MethodSection):
    """Constitutional AI (Bai et al. 2022, arXiv:2212.08073): a judge and written principles.

    It trains nothing. It samples answers from the model and writes rows that a later stage reads as
    `stage:NAME`: prompts with revised answers (for `sft`), or pairs of answers of which the judge
    prefers the first (for `dpo`, `reward` and others).
    """

    impl = "training.methods.constitutional:write"
    rows = "prompt"
    title = "Constitutional AI"
    trains = False

    kind: Literal["constitutional"]
    writes: Literal["revisions", "preferences"]
    """`revisions`: each answer is critiqued and rewritten. `preferences`: the judge chooses the
    better of two answers, in both orders; pairs with different results are left out."""
    constitution: Annotated[
        Constitution, BeforeValidator(as_constitution, json_schema_input_type=str | Constitution)
    ]
    """A YAML file of principles, or the principles themselves."""
    judge: AnyJudge = LocalJudge(kind="local")
    """Model that critiques, revises and chooses; the model itself if not set."""
    rollout: Answers = Answers()
    turns: PositiveInt = 1
    """Rounds of critique and revision per answer, each with a different principle."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled for a prompt."""
        return self.rollout.max_new_tokens

    def validate_against(self, job: Any) -> Iterator[Problem]:
        """Yield what the method cannot be combined with in the rest of a job."""
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
