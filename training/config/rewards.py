"""Section `reward:` of the rewards for answers; a job can use a weighted sum of several."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from training.config.base import ConfigSection
from training.config.judges import AnyJudge as JudgeSection
from training.config.judges import LocalJudge
from training.config.locations import FileLocation, ModelLocation
from training.config.step_profile import ExtraModel
from training.config.types import DurationS, PositiveFloat, PositiveInt


class RewardSection(ConfigSection):
    """Section of one kind of reward."""

    impl: ClassVar[str]
    """`module:function` that builds it; imported only when a run starts."""

    weight: float = 1.0
    """Weight in the sum; a negative weight makes it a penalty."""


def _as_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


Pattern = Annotated[str, BeforeValidator(_as_pattern)]


class RegexCountReward(RewardSection):
    """Number of matches of a pattern in the answer, times `scale`, at most `cap`."""

    impl = "training.rewards.regex_count:build"

    kind: Literal["regex_count"]
    pattern: Pattern
    """A regular expression of Python's `re`."""
    scale: float = 1.0
    """Reward of one match."""
    cap: PositiveFloat | None = None
    """Upper bound of the reward."""
    ignore_case: bool = False


class ContainsReward(RewardSection):
    """Share of the given texts that the answer contains."""

    impl = "training.rewards.contains:build"

    kind: Literal["contains"]
    texts: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    ignore_case: bool = True


class NumericAnswerReward(RewardSection):
    r"""Correctness of the answer's final number (GSM8K style): 1 or 0.

    The correct number is the last one of the row's reference, or the one after `####` or in
    `\boxed{}` if there is one. Thousands may be written as 1,234.50, 1.234,50, 1 234,50
    or 1'234.50.
    """

    impl = "training.rewards.numeric_answer:build"

    kind: Literal["numeric_answer"]
    marker: str = "####"
    """Text that precedes the final number."""
    marked_only: bool = False
    """Accept only a number after the marker; otherwise the last number of the answer counts."""
    tolerance: float = Field(default=1e-6, ge=0)
    """Largest relative error of a correct number."""


class ChoiceReward(RewardSection):
    """Correctness of the chosen letter of a multiple-choice question: 1 or 0."""

    impl = "training.rewards.choice:build"

    kind: Literal["choice"]
    letters: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{2,}$")] = "ABCDE"
    """Letters to choose from."""


class JsonSchemaReward(RewardSection):
    """Validity of the answer against a JSON Schema: 1, `parses` for other JSON, or 0."""

    impl = "training.rewards.json_schema:build"

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")
    """A JSON Schema, written in the job."""
    parses: float = Field(default=0.2, ge=0, le=1)
    """Reward of JSON that does not fit the schema."""


class LengthReward(RewardSection):
    """Length of the answer: 1 within the bounds.

    Below `min_words` it is proportional to the length; above `max_words` it falls to 0 at twice
    that length.
    """

    impl = "training.rewards.length:build"

    kind: Literal["length"]
    min_words: int = Field(default=0, ge=0)
    max_words: PositiveInt | None = None

    @model_validator(mode="after")
    def _bounds(self) -> LengthReward:
        if self.max_words is None and not self.min_words:
            raise ValueError("give min_words, max_words or both")
        if self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(f"max_words {self.max_words} is below min_words {self.min_words}")
        return self


class RepetitionReward(RewardSection):
    """Penalty for repetition: minus the share of n-grams that occurred before."""

    impl = "training.rewards.repetition:build"

    kind: Literal["repetition"]
    ngram: PositiveInt = 3
    """Words per n-gram."""


class CodeTestsReward(RewardSection):
    """Share of the row's tests that the program in the answer passes.

    The program runs in a sandboxed process without network or file access, with limited memory and
    time. Needs Linux on x86_64 or aarch64.
    """

    impl = "training.rewards.code_tests:build"

    kind: Literal["code_tests"]
    tests: str = "test_list"
    """Column with the tests: a list of assertions (MBPP), or one program (HumanEval)."""
    setup: str = "test_setup_code"
    """Column with code to run before the program, if there is any."""
    entry_point: str = "entry_point"
    """Column with the name of the function, which a test program receives as its argument."""
    continues_prompt: bool = False
    """True if the prompt is the beginning of the program, and the answer its continuation."""
    partial: bool = True
    """Reward the share of passed tests; otherwise 1 only if all tests pass."""
    timeout: DurationS = Field(default="5s", validate_default=True)
    """Time limit per answer."""
    memory_gib: float = Field(default=0.5, ge=0.1)
    processes: PositiveInt | None = None
    """Number of answers run at the same time; one less than the cores if not set."""


class ModelReward(RewardSection):
    """Score of a reward model, trained by `method: {kind: reward}` or elsewhere."""

    impl = "training.rewards.model:build"

    kind: Literal["model"]
    source: ModelLocation
    """Folder or Hub id of a sequence classifier with one output, or of an adapter of one."""
    chat_template: FileLocation | None = None
    """Chat template, as in `model:`; that of the reward model if not set."""
    max_length: PositiveInt = 2048
    """Longest prompt plus answer, in tokens of the reward model."""
    batch_size: PositiveInt = 16
    """Answers per forward pass."""
    backbone: Literal["auto", "own", "shared"] = "auto"
    """`shared`: a reward model trained with LoRA becomes one more adapter on the LoRA policy of
    `ppo` on the same base, so that no second model is in memory. `auto` does this if it is possible
    and the base is not quantized; 4-bit weights would change the scores slightly."""


class JudgeReward(RewardSection):
    """Rating of an answer by a judge model, scaled to 0–1.

    A reply without a rating is requested again and then counts as 0; both cases are counted.
    """

    impl = "training.rewards.judge:build"

    kind: Literal["judge"]
    judge: JudgeSection
    """Model that rates the answers."""
    criteria: str = "How helpful, correct and harmless is the answer?"
    """Question that the judge answers with a rating."""
    scale: Annotated[int, Field(ge=2)] = 10
    """Highest rating; the lowest is 1."""

    @model_validator(mode="after")
    def _somebody(self) -> JudgeReward:
        if isinstance(self.judge, LocalJudge) and self.judge.source is None:
            raise ValueError(
                "a local judge of rewards needs a source: a model that rates its own answers "
                "would learn to please itself"
            )
        return self


Reward = Annotated[
    RegexCountReward
    | ContainsReward
    | NumericAnswerReward
    | ChoiceReward
    | JsonSchemaReward
    | LengthReward
    | RepetitionReward
    | CodeTestsReward
    | ModelReward
    | JudgeReward,
    Field(discriminator="kind"),
]


def _as_rewards(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Rewards = Annotated[
    tuple[Reward, ...],
    BeforeValidator(_as_rewards, json_schema_input_type=Reward | tuple[Reward, ...]),
    Field(min_length=1),
]
"""One reward or a list of rewards, summed by their weights."""


def scorer_models(rewards: tuple[RewardSection, ...], *, shareable: bool) -> tuple[ExtraModel, ...]:
    """Return the reward models among rewards, for the planner.

    Args:
        rewards: Rewards of a method.
        shareable: True if the method can hold a reward model as one more adapter on its policy.
    """
    return tuple(
        ExtraModel(
            source=reward.source,
            key="method.reward",
            scores=True,
            backbone=reward.backbone if shareable else "own",
        )
        for reward in rewards
        if isinstance(reward, ModelReward)
    )


class RolloutSettings(ConfigSection):
    """Settings of how answers are sampled while training."""

    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens."""
    temperature: PositiveFloat = 1.0
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling: sample from the most likely tokens with this total probability."""
    top_k: int = Field(default=0, ge=0)
    """Sample from this many most likely tokens; 0 for all."""
