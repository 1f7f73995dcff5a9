"""`data:` where the rows come from, how they are read, and how long they may be."""

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
    "unpaired",
    "prompt",
]


class Source(ConfigSection):
    """One source of rows."""

    source: DataLocation
    """A file (JSON, JSONL, CSV, Parquet, text; gzipped or not), a folder of them, a Hub data-set
    id, `channel:NAME` of a training container, or `builtin:python-stdlib`."""
    weight: PositiveFloat = 1.0
    """How often its rows come up, relative to the other sources: 2 for twice in an epoch, 0.5 for
    every other row."""
    limit: PositiveInt | None = None
    """Use the first N rows only."""
    split: str = "train"
    """The split of a Hub data set."""
    subset: str | None = None
    """The configuration of a Hub data set, or the part of a builtin one."""
    shape: ShapeName | None = None
    """The rows' shape; recognised from the columns when left out."""
    columns: dict[str, str] = Field(default={})
    """Renames columns first: `{prompt: question, completion: answer}` reads `question` as the
    prompt."""


def _as_source(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


def _as_sources(value: Any) -> Any:
    if value is None:
        return ()
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(_as_source(item) for item in items)


def _as_validation(value: Any) -> Any:
    if value is None or value == "none":
        return {}
    if isinstance(value, str):
        return {"source": {"source": value}}
    if isinstance(value, dict) and isinstance(value.get("source"), str) and "split" not in value:
        return {"source": value}
    return value


class Validation(ConfigSection):
    """The held-out rows: a share of the training rows, or a source of their own, or none."""

    split: Share | None = None
    """Share of the training rows held out, such as 5%."""
    source: Annotated[Source, BeforeValidator(_as_source)] | None = None

    @property
    def wanted(self) -> bool:
        """Whether there are held-out rows."""
        return bool(self.split) or self.source is not None


class Replay(ConfigSection):
    """General text mixed in, so that the model does not forget it."""

    source: Annotated[Source, BeforeValidator(_as_source)]
    share: Share
    """Share of all training tokens that is replayed, such as 20%."""


class Data(ConfigSection):
    """What the model learns from."""

    train: Annotated[tuple[Source, ...], BeforeValidator(_as_sources)] = ()
    """One source or a list of them."""
    prompts: tuple[str, ...] = ()
    """Prompts written in the job itself, in place of `train`."""
    repeat: PositiveInt = 1
    """How many times the `prompts` are repeated."""
    validation: Annotated[Validation, BeforeValidator(_as_validation)] = Validation()
    max_length: int = Field(default=1024, ge=8)
    """Longest row, in tokens."""
    packing: bool = False
    """Put several documents into one row, kept apart: none attends to another."""
    limit: PositiveInt | None = None
    """Use the first N rows only, over all sources."""
    replay: Replay | None = None
    terms: tuple[str, ...] = ()
    """Words of the domain; the report says how the tokenizer splits them."""
    on_error: Literal["stop", "skip"] = "stop"
    """What to do with a row that cannot be read. Skipped rows are counted and listed."""
    streaming: bool = False
    """Read while training, for data larger than the disk's cache. Needs `train.max_steps`."""
    shuffle: bool = True
    workers: PositiveInt | None = None
    """Processes that tokenize; one per core when left out."""
