"""Base of the section `synthesize:`, with the keys that all of its kinds share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from preparation.synthesis.batch_section import BedrockBatchTeacher
from preparation.synthesis.drafts import Ask, Collection, Draft
from training.config.base import ConfigSection
from training.config.data import Source
from training.config.judges import (
    AnyJudge,
    BedrockJudge,
    Endpoint,
    JudgeSection,
    LocalJudge,
    OpenAiJudge,
)
from training.config.locations import existing_path
from training.config.types import PositiveInt
from training.data.schema.rows import Message
from validation.problem import Problem

AnyTeacher = Annotated[
    OpenAiJudge | BedrockJudge | LocalJudge | BedrockBatchTeacher, Field(discriminator="kind")
]
SAMPLE = 32
"""Requests that are rendered for an estimate."""


class JudgeFilter(ConfigSection):
    """Filter of the drafts by a judge's rating."""

    judge: AnyJudge
    """Model that rates: an OpenAI-compatible endpoint, Bedrock, or a local model with `source`."""
    threshold: PositiveInt
    """Lowest rating that is kept."""
    scale: int = Field(default=10, ge=2)
    """Highest rating; the lowest is 1."""
    criteria: str = (
        "Is the question clear and answerable by itself, and is the answer correct, complete and "
        "helpful?"
    )
    """Question to the judge, which rates prompt and answer together."""


class PlannedRequests(NamedTuple):
    """Requests of one purpose that a synthesis is expected to make.

    Attributes:
        purpose: Purpose in words.
        requests: Number of requests.
        questions: Some of their questions; empty if they depend on earlier replies.
        characters: Mean length of a question where `questions` is empty.
    """

    purpose: str
    requests: int
    questions: Sequence[list[Message]] = ()
    characters: int = 0


class SynthesisSection(ConfigSection, ABC):
    """Section of one kind of synthesis, discriminated by its key `kind`."""

    teacher: AnyTeacher
    """Model that writes: an OpenAI-compatible endpoint, Bedrock (single calls, or `bedrock_batch`
    for batch inference jobs), or a local model with `source`.
    Its `temperature`, `max_new_tokens`, `concurrency` and `price` are set here."""
    teacher_terms: str | None = None
    """Licence or terms of use under which the teacher's text may be used; written into the card."""
    rows: PositiveInt
    """Number of rows to write."""
    seed: int = 42
    """Seed of the order of sources and of the examples and operations that are drawn."""
    max_cost_usd: float | None = Field(default=None, gt=0)
    """Limit for the cost of all calls; required if a price is not 0."""
    filter: JudgeFilter | None = None
    writes: Literal["messages", "prompt_completion"] = "messages"
    """Shape of the rows."""
    system: str | None = None
    """System message of the teacher when it answers prompts; the rows do not contain it."""

    @abstractmethod
    def drafts(self, ask: Ask, collected: Collection) -> Iterator[list[Draft]]:
        """Yield drafts until no row is missing or nothing is left to ask.

        The result depends only on the section, the sources and the replies.

        Args:
            ask: Asks the teacher.
            collected: Accepted drafts so far; reasons of rejected ones are counted there.
        """

    @abstractmethod
    def planned(self) -> list[PlannedRequests]:
        """Return the requests that the rows take if every reply can be used."""

    @abstractmethod
    def sources(self) -> list[tuple[str, Source]]:
        """Return the sources with their keys."""

    @property
    def models(self) -> list[tuple[str, JudgeSection]]:
        """The models that are called, each with its key."""
        models: list[tuple[str, JudgeSection]] = [("teacher", self.teacher)]
        return models if self.filter is None else [*models, ("filter.judge", self.filter.judge)]

    def problems(self, key: str = "synthesize") -> Iterable[Problem]:
        """Yield what is wrong with the settings beyond their types.

        Args:
            key: Key of the section in its file.
        """
        for name, source in self.sources():
            if _is_missing(source.source):
                fix = "Paths are taken from the working directory"
                message = "there is no such file or folder"
                yield Problem(f"{key}.{name}", message, source.source, fix)
        for name, model in self.models:
            yield from self._model_problems(f"{key}.{name}", model, key)
        if self.filter is not None and self.filter.threshold > self.filter.scale:
            message = f"the highest rating is {self.filter.scale} (filter.scale)"
            yield Problem(f"{key}.filter.threshold", message, str(self.filter.threshold))

    def _model_problems(self, name: str, model: JudgeSection, key: str) -> Iterator[Problem]:
        if isinstance(model, LocalJudge):
            if model.source is None:
                fix = "Give a folder or a Hub id"
                yield Problem(f"{name}.source", "a local model must be named here", fix=fix)
            return
        assert isinstance(model, Endpoint | BedrockBatchTeacher)
        if model.price is None:
            yield Problem(
                f"{name}.price",
                "the price of an endpoint must be known before it is called",
                fix="Give price: {input: …, output: …} in USD per million tokens (0 for a server "
                "of your own)",
            )
        elif (model.price.input or model.price.output) and self.max_cost_usd is None:
            yield Problem(
                f"{key}.max_cost_usd",
                f"a limit is required, because {name} has a price",
                fix="Give the most that all calls together may cost, in USD",
            )


def _is_missing(name: str) -> bool:
    """Return True for a path that does not exist; other names are looked up when they are read."""
    is_path = name.startswith((".", "/", "~")) or "." in name.rsplit("/", 1)[-1]
    return is_path and ":" not in name and existing_path(name) is None


def drawing_seed(*parts: Any) -> str:
    """Return the seed of one draw, so that each draw is independent of the others."""
    return "/".join(map(str, parts))
