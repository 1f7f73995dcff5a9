"""Section `model:` of the pretrained weights, or of the architecture of a new model."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from training.config.base import ConfigSection
from training.config.locations import FileLocation, ModelLocation
from training.config.types import PositiveInt

SCRATCH = "scratch"
PREVIOUS = "previous"
STAGE = "stage:"
"""Prefix of a reference to an earlier stage: `stage:NAME` is its model, or the rows it wrote."""
REGISTRY = "registry:"
"""Prefix of a version in SageMaker's model registry: `registry:GROUP/VERSION`."""
_MODEL_PACKAGE = re.compile(r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:model-package/\S+")


class Scratch(ConfigSection):
    """Architecture of a model with random weights.

    Keys are those of a Transformers `config.json`.
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
    """Key/value heads (grouped-query attention); as many as attention heads if not set."""
    vocab_size: PositiveInt | None = None
    """Vocabulary size of the tokenizer trained on the data; not set if `model.tokenizer` is."""
    max_position_embeddings: PositiveInt = 2048
    """Longest context, in tokens."""
    tie_word_embeddings: bool = True
    """Share input and output embeddings."""


class Freeze(ConfigSection):
    """Parameters that are not trained."""

    layers: int = Field(default=0, ge=0)
    """The first N transformer layers."""
    embeddings: bool = False
    """Input embeddings (and the output head, if it is tied to them)."""
    patterns: tuple[str, ...] = ()
    """Regular expressions; a parameter whose full name matches one is frozen."""

    @property
    def anything(self) -> bool:
        """True if any parameter is frozen."""
        return bool(self.layers or self.embeddings or self.patterns)


class Model(ConfigSection):
    """Model to train."""

    source: ModelLocation = PREVIOUS
    """A Hub id, a folder, a `model.tar.gz`, `run:NAME` (the newest model of a job's runs;
    `run:NAME/ID` is that of one run), `registry:GROUP/VERSION` (a version in SageMaker's model
    registry by number or as `NAME@1.4.0`; the newest approved one without VERSION) or its ARN,
    `bedrock:ID` or `jumpstart:ID` (models of AWS, for targets that have them), `scratch`, or
    `previous`: the model of the stage before."""
    approval: Literal["required", "none"] = "required"
    """`required`: a version of the model registry must be approved. `none`: any will do."""
    model_package_arn: str | None = None
    """Version in the model registry that `source` was read from. A submission sets it."""
    base_model: ModelLocation | None = None
    """Base of the adapter in `source`, a folder or a Hub id, if it is not where the adapter's
    `base_model_name_or_path` says."""
    revision: str | None = None
    """Branch, tag or commit on the Hub, of `base_model` if it is set."""
    scratch: Scratch | None = None
    """Architecture, if `source` is `scratch`."""
    tokenizer: ModelLocation | None = None
    """Hub id or folder of a tokenizer; that of the model if not set."""
    chat_template: FileLocation | None = None
    """A built-in template by name (`chatml`, …), or a `.jinja` file; that of the tokenizer if not
    set."""
    add_tokens: tuple[str, ...] = ()
    """Terms to add to the vocabulary as one token each, such as `[tachycardia, "<|note|>"]`. Their
    embeddings start as the average of those of their pieces, and are trained."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"
    freeze: Freeze = Freeze()
    trust_remote_code: bool = False
    """Run Python code from the model repository. Enable it only if you have read that code."""


def in_registry(source: str) -> bool:
    """Return whether a source is a version in SageMaker's model registry."""
    return source.startswith(REGISTRY) or bool(_MODEL_PACKAGE.fullmatch(source))


def trains_tokenizer(model: Model) -> bool:
    """Return whether the tokenizer must be trained on the job's data."""
    return model.source == SCRATCH and model.tokenizer is None
