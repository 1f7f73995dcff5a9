"""Facts of a model in the metadata of its GGUF file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.models.gguf_model import end_tokens, open_gguf
from training.errors import ModelError

_ALL_FP32 = 0
"""`general.file_type` of a file whose weights are all in fp32."""


@dataclass(frozen=True)
class GgufMetadata:
    """Facts of a model in a GGUF file.

    Attributes:
        architecture: Its architecture, as llama.cpp names it.
        context: Longest prompt and answer together, in tokens.
        vocabulary: Number of token ids.
        end_ids: Tokens that end an answer.
        is_fp32: True if all weights are in fp32. Keys and values are then too, and otherwise in
            fp16, llama.cpp's default.
        cache_bytes: Bytes of the cache for a token.
    """

    architecture: str
    context: int
    vocabulary: int
    end_ids: list[int]
    is_fp32: bool
    cache_bytes: int


def read_metadata(path: Path) -> GgufMetadata:
    """Return the facts of a GGUF file.

    Raises:
        ModelError: It is no GGUF file, or no language model.
    """
    fields = open_gguf(path).fields

    def get(name: str, default: Any = None) -> Any:
        field = fields.get(name)
        return default if field is None else field.contents()

    architecture = str(get("general.architecture"))
    context = get(f"{architecture}.context_length")
    tokens = fields.get("tokenizer.ggml.tokens")
    if not context or tokens is None:
        lacks = "context_length" if not context else "tokenizer"
        raise ModelError(
            f"{path} cannot be served: its metadata (architecture {architecture}) has no {lacks}. "
            f"Name the file of a language model; a multimodal projector or an adapter is not one"
        )
    ends = end_tokens({name: get(name) for name in fields if name.endswith("_token_id")})
    vocabulary = len(tokens.data)
    is_fp32 = get("general.file_type") == _ALL_FP32
    cache_bytes = _cache_elements(architecture, get) * (4 if is_fp32 else 2)
    return GgufMetadata(architecture, int(context), vocabulary, ends, is_fp32, cache_bytes)


def _cache_elements(architecture: str, get: Any) -> int:
    """Return the number of elements of the keys and values of a token, in all layers."""
    layers = int(get(f"{architecture}.block_count", 0))
    heads = get(f"{architecture}.attention.head_count", 1)
    kv_heads = get(f"{architecture}.attention.head_count_kv", heads)
    width = int(get(f"{architecture}.embedding_length", 0))
    of_head = width // max(1, _largest(heads))
    keys = int(get(f"{architecture}.attention.key_length", of_head))
    values = int(get(f"{architecture}.attention.value_length", of_head))
    return max(1, layers * _largest(kv_heads) * (keys + values))


def _largest(heads: int | Sequence[int]) -> int:
    """Return the number of heads, the largest if layers differ."""
    return int(heads) if isinstance(heads, int) else max(int(one) for one in heads)
