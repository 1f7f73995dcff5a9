"""`reward:` what makes an answer better. The union is the registry; a job may add several up."""

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
    """What every reward declares."""

    impl: ClassVar[str]
    """`module:function` that makes it, imported only when used."""

    weight: float = 1.0
    """What it counts in the sum; below zero it is a penalty."""


def _as_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


Pattern = Annotated[str, BeforeValidator(_as_pattern)]


class RegexCountReward(RewardSection):
    """How often a pattern stands in the answer: `scale` for each, at most `cap`."""

    impl = "training.rewards.regex_count:build"

    kind: Literal["regex_count"]
    pattern: Pattern
    """A regular expression of Python's `re`."""
    scale: float = 1.0
    """Reward of one match."""
    cap: PositiveFloat | None = None
    """Most that all matches together may come to."""
    ignore_case: bool = False


class ContainsReward(RewardSection):
    """Whether texts stand in the answer: the share of `texts` that do."""

    impl = "training.rewards.contains:build"

    kind: Literal["contains"]
    texts: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    ignore_case: bool = True


class NumericAnswerReward(RewardSection):
    r"""Whether the answer's final number is the right one (GSM8K style): 1 or 0.

    The right number is the last one of the row's reference; behind `####`, or in `\boxed{}`, where
    that stands. Thousands may be written as 1,234.50, 1.234,50, 1 234,50 or 1'234.50.
    """

    impl = "training.rewards.numeric_answer:build"

    kind: Literal["numeric_answer"]
    marker: str = "####"
    """What the final number stands behind."""
    marked_only: bool = False
    """Count a number only where the marker stands before it; else the last number counts."""
    tolerance: float = Field(default=1e-6, ge=0)
    """How far a number may be off, relative to the right one."""


class ChoiceReward(RewardSection):
    """Whether the answer chooses the right letter of a multiple choice: 1 or 0."""

    impl = "training.rewards.choice:build"

    kind: Literal["choice"]
    letters: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{2,}$")] = "ABCDE"
    """The letters there are to choose from."""


class JsonSchemaReward(RewardSection):
    """Whether the answer is JSON that fits a schema: 1, `parses` for other JSON, else 0."""

    impl = "training.rewards.json_schema:build"

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")
    """A JSON Schema, written in the job."""
    parses: float = Field(default=0.2, ge=0, le=1)
    """Reward of JSON that does not fit the schema."""


class LengthReward(RewardSection):
    """Whether the answer is as long as wanted: 1 within the bounds, falling to 0 at twice the way.

    Below `min_words` it rises in proportion; above `max_words` it falls to 0 at twice of them.
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
    """A penalty for saying things again: minus the share of n-grams that stood there before."""

    impl = "training.rewards.repetition:build"

    kind: Literal["repetition"]
    ngram: PositiveInt = 3
    """Words of an n-gram."""


class CodeTestsReward(RewardSection):
    """Whether the program in the answer passes the row's tests: the share that it passes.

    It runs in a process that can neither reach the network nor change a file, with little memory
    and time. Needs Linux on x86_64 or aarch64.
    """

    impl = "training.rewards.code_tests:build"

    kind: Literal["code_tests"]
    tests: str = "test_list"
    """The column with the tests: a list of assertions (MBPP), or one program (HumanEval)."""
    setup: str = "test_setup_code"
    """The column with what comes before the program, where there is one."""
    entry_point: str = "entry_point"
    """The column with the function's name, which one program of tests is called with."""
    continues_prompt: bool = False
    """The answer goes on with the prompt, which is the beginning of the program."""
    partial: bool = True
    """Reward the share of the tests that pass; else 1 only where all do."""
    timeout: DurationS = Field(default="5s", validate_default=True)
    """Time for one answer."""
    memory_gib: float = Field(default=0.5, ge=0.1)
    processes: PositiveInt | None = None
    """Answers run at once; one less than there are cores when left out."""


class ModelReward(RewardSection):
    """A reward model's score, from one that `method: {kind: reward}` has trained or any other."""

    impl = "training.rewards.model:build"

    kind: Literal["model"]
    source: ModelLocation
    """A folder or Hub id: a sequence classifier with one output, or an adapter of one."""
    chat_template: FileLocation | None = None
    """As in `model:`; the reward model's own when left out."""
    max_length: PositiveInt = 2048
    """Longest prompt and answer together, in its own tokens."""
    batch_size: PositiveInt = 16
    """Answers scored at once."""
    backbone: Literal["auto", "own", "shared"] = "auto"
    """`shared`: a reward model that was trained as LoRA is one more adapter on what `ppo` trains as
    LoRA on the same base, and no second model is held. `auto` does so where it can be and the base
    is not quantized; its 4-bit weights would move the scores a little."""


class JudgeReward(RewardSection):
    """A model's opinion of an answer, from 0 to 1: a local model's, an endpoint's, or Bedrock's.

    Replies that hold no rating are asked for again, and then count 0; both are counted.
    """

    impl = "training.rewards.judge:build"

    kind: Literal["judge"]
    judge: JudgeSection
    """Who is asked."""
    criteria: str = "How helpful, correct and harmless is the answer?"
    """What is asked of the judge."""
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


Rewards = Annotated[tuple[Reward, ...], BeforeValidator(_as_rewards), Field(min_length=1)]
"""One reward or a list of them, which are added up by their weights."""


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
    """How answers are sampled while training."""

    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens."""
    temperature: PositiveFloat = 1.0
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample among the likeliest tokens that make up this share of probability."""
    top_k: int = Field(default=0, ge=0)
    """Sample among so many likeliest tokens; 0 for all."""
