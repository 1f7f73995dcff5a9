"""Tasks of a suite: where items come from, what the model is asked, and how it is scored."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from evaluation.config.scores import AnyScore
from evaluation.config.templates import Template
from training.config.base import ConfigSection
from training.config.types import PositiveInt


class DataFile(ConfigSection):
    """File of items, or a sample of it."""

    path: str
    """File (JSON, JSONL, CSV or Parquet; gzipped or not), from the folder of the suite or the
    working directory."""
    where: dict[str, str | int | bool] = Field(default={})
    """Only rows whose columns have these values: `{split: validation}`."""
    rows: PositiveInt | None = None
    """Number of rows to take; all if not set."""
    seed: int | None = None
    """Seed of a random sample; the first rows are taken if not set."""


def _as_data(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


AnyData = Annotated[DataFile, BeforeValidator(_as_data, json_schema_input_type=str | DataFile)]


class FewShot(ConfigSection):
    """Examples with their answers that precede each prompt."""

    count: PositiveInt
    """Number of examples."""
    data: AnyData
    """File of the examples. None of them may be an item of the task."""


class TaskSection(ConfigSection):
    """Section of one kind of task."""

    metrics: ClassVar[tuple[str, ...]] = ()
    """Names of its metrics; empty if its scores determine them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
    """Name of the task, unique in the suite."""
    data: AnyData
    """File of the items."""
    id: str | None = None
    """Column with the identity of an item; the number of the row if not set."""
    group: str | None = None
    """Column with the group of an item, by which results are also listed."""


class PromptedTask(TaskSection):
    """Section of a task whose items have a prompt."""

    prompt: Template
    """Prompt as a Jinja template over the columns of an item: `Question: {{question}}`."""
    description: str = ""
    """Text before the first example and the prompt."""
    few_shot: FewShot | None = None
    """Examples before each prompt, joined by an empty line."""
    chat: bool = False
    """Ask through the model's chat template: the description is the system message, and examples
    are earlier turns. If not set, the prompt is continued as plain text."""


class MultipleChoice(PromptedTask):
    """Task whose answer is the choice that the model finds most likely."""

    metrics = ("accuracy", "accuracy_norm", "brier_score", "calibration_error")

    kind: Literal["multiple_choice"]
    choices: Template | tuple[Template, ...]
    """Column with the list of choices, or a list of templates."""
    target: Template
    """Column or template of the right choice: its index from 0, its letter, or its text."""
    target_delimiter: str = " "
    """Text between the prompt and a choice."""


class Perplexity(TaskSection):
    """Task that measures how well the model predicts texts."""

    metrics = ("bits_per_byte", "byte_perplexity", "word_perplexity", "token_perplexity")

    kind: Literal["perplexity"]
    text: Template
    """Column or template of the text."""


class GenerationTask(PromptedTask):
    """Task whose answers are generated and scored."""

    kind: Literal["generation"]
    target: Template | tuple[Template, ...] | None = None
    """Column or template of the right answer; a list if several are right."""
    target_delimiter: str = " "
    """Text between the prompt of an example and its answer."""
    follow_ups: Template | None = None
    """Column or template of a list of further messages of the user, in a chat. Each is asked after
    the model's own answer to the one before it; the last answer is scored."""
    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an answer; they are not part of it."""
    samples: PositiveInt = 1
    """Number of answers to each prompt."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature; 0 for greedy decoding."""
    scores: Annotated[tuple[AnyScore, ...], Field(min_length=1)]
    """Scores of the answers."""


AnyTask = Annotated[MultipleChoice | Perplexity | GenerationTask, Field(discriminator="kind")]
