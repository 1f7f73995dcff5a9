"""Section `data:` of the sources of rows, their format and their length."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from training.config.base import ConfigSection
from training.config.locations import DataLocation
from training.config.types import PositiveFloat, PositiveInt, Share

ShapeName = Literal[
    "text",
    "prompt_completion",
    "alpaca",
    "messages",
    "sharegpt",
    "preference",
    "ranking",
    "unpaired",
    "prompt",
]


class Source(ConfigSection):
    """One source of rows."""

    source: DataLocation
    """A file (JSON, JSONL, CSV, Parquet, text; gzipped or not), a folder of them, a Hub data-set
    id, `channel:NAME` of a training container, or `builtin:python-stdlib`."""
    weight: PositiveFloat = 1.0
    """Sampling weight relative to other sources: 2 repeats each row twice per epoch, 0.5 uses every
    other row."""
    limit: PositiveInt | None = None
    """Use the first N rows only."""
    split: str = "train"
    """The split of a Hub data set."""
    subset: str | None = None
    """The configuration of a Hub data set, or the part of a builtin one."""
    shape: ShapeName | None = None
    """Schema of the rows; detected from the columns if not set."""
    columns: dict[str, str] = Field(default={})
    """Renames columns first: `{prompt: question, completion: answer}` reads `question` as the
    prompt."""
    dimensions: dict[str, PositiveFloat] = Field(default={})
    """Weights of the dimensions of rankings: `{helpfulness: 2, harmlessness: 1}`. If not set,
    all dimensions of a row weigh the same."""


def _as_source(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


def _as_sources(value: Any) -> Any:
    if value is None:
        return ()
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(_as_source(item) for item in items)


SourceLike = Annotated[Source, BeforeValidator(_as_source, json_schema_input_type=str | Source)]
"""A source, or its location alone."""


def _as_validation(value: Any) -> Any:
    if value is None or value == "none":
        return {}
    if isinstance(value, str):
        return {"source": {"source": value}}
    if isinstance(value, dict) and isinstance(value.get("source"), str) and "split" not in value:
        return {"source": value}
    return value


class Validation(ConfigSection):
    """Held-out rows: a share of the training rows, a source of their own, or none."""

    split: Share | None = None
    """Share of the training rows held out, such as 5%."""
    source: SourceLike | None = None
    by: Literal["row", "group"] | None = None
    """Unit of the split. `row` (the default): complete source rows, and rows with the same prompt
    stay on one side. `group`: all rows with the same value of `column` do."""
    column: str | None = None
    """With `by: group`, the column whose value is the group, such as a thread, user or document."""

    @property
    def group_column(self) -> str | None:
        """Column of a split by group; None for a split by row."""
        return self.column if self.by == "group" else None

    @property
    def wanted(self) -> bool:
        """True if there are held-out rows."""
        return bool(self.split) or self.source is not None


class Replay(ConfigSection):
    """General text mixed into the training data, against forgetting."""

    source: SourceLike
    share: Share
    """Share of replayed tokens in all training tokens, such as 20%."""


class Data(ConfigSection):
    """Training and held-out data."""

    train: Annotated[
        tuple[Source, ...],
        BeforeValidator(
            _as_sources, json_schema_input_type=str | Source | tuple[str | Source, ...] | None
        ),
    ] = ()
    """One source or a list of them."""
    prompts: tuple[str, ...] = ()
    """Prompts written in the job, in place of `train`."""
    repeat: PositiveInt = 1
    """Number of repetitions of the `prompts`."""
    validation: Annotated[
        Validation,
        BeforeValidator(_as_validation, json_schema_input_type=str | Source | Validation | None),
    ] = Validation()
    max_length: int = Field(default=1024, ge=8)
    """Longest row, in tokens."""
    overlap: int = Field(default=0, ge=0)
    """Tokens that each row of a text longer than `max_length` repeats from the row before, as
    context that is not learned again: `stride` of a Transformers tokenizer."""
    long_conversations: Literal["truncate", "split"] = "truncate"
    """Handling of conversations longer than `max_length`. `truncate`: cut off the end. `split`:
    make rows of whole turns, each after the system message and without the earlier turns."""
    packing: bool = False
    """Pack several documents into one row; no document attends to another."""
    limit: PositiveInt | None = None
    """Use the first N rows only, over all sources."""
    replay: Replay | None = None
    terms: tuple[str, ...] = ()
    """Domain terms; the report shows how the tokenizer splits them."""
    on_error: Literal["stop", "skip"] = "stop"
    """Handling of rows that cannot be read. Skipped rows are counted and listed."""
    streaming: bool = False
    """Read rows while training, for data larger than the disk. Needs `train.max_steps`."""
    shuffle: bool = True
    workers: PositiveInt | None = None
    """Number of tokenizing processes; one per core if not set."""
