"""`model:` which weights, or which shape when they start from random."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from training.config.base import ConfigSection
from training.config.locations import FileLocation, ModelLocation
from training.config.types import PositiveInt

SCRATCH = "scratch"
PREVIOUS = "previous"
STAGE = "stage:"
"""What a key says to name an earlier stage: `stage:NAME` is its model, or the rows it wrote."""


class Scratch(ConfigSection):
    """The shape of a model that starts from random weights.

    Names are those of a Transformers `config.json`.
    """

    architecture: Literal["llama", "mistral", "qwen2", "qwen3"] = "llama"
    """Model type, as Transformers names it."""
    hidden_size: PositiveInt
    """Width of the residual stream."""
    intermediate_size: PositiveInt
    """Width of the MLP."""
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt | None = None
    """Key/value heads (grouped-query attention); all heads when left out."""
    vocab_size: PositiveInt | None = None
    """Pieces of the tokenizer trained on the data; left out when `model.tokenizer` names one."""
    max_position_embeddings: PositiveInt = 2048
    """Longest context, in tokens."""
    tie_word_embeddings: bool = True
    """Share input and output embeddings."""


class Freeze(ConfigSection):
    """What stays as it is while the rest learns."""

    layers: int = Field(default=0, ge=0)
    """The first N transformer layers."""
    embeddings: bool = False
    """Input embeddings (and the output head, where it is tied to them)."""
    patterns: tuple[str, ...] = ()
    """Regular expressions; a parameter whose full name matches one is frozen."""

    @property
    def anything(self) -> bool:
        """Whether this freezes any parameter."""
        return bool(self.layers or self.embeddings or self.patterns)


class Model(ConfigSection):
    """Which model is trained."""

    source: ModelLocation = PREVIOUS
    """A Hub id, a folder, `scratch`, or `previous`: the model of the stage before."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    scratch: Scratch | None = None
    """The shape, when `source` is `scratch`."""
    tokenizer: ModelLocation | None = None
    """A Hub id or folder; the model's own when left out."""
    chat_template: FileLocation | None = None
    """A template of ours by name (`chatml`, …), or a `.jinja` file; the tokenizer's own when left
    out."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"
    freeze: Freeze = Freeze()
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Leave off unless you have read that code."""
