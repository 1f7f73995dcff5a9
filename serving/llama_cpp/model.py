"""Model in a GGUF file that llama.cpp computes.

Prompts are rendered and tokenized by the same code as in an evaluation of the file; llama.cpp gets
token ids. When the model is loaded, both tokenizers are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from serving.llama_cpp.engine import LlamaCppEngine
from serving.llama_cpp.metadata import GgufMetadata, read_metadata
from serving.llama_cpp.server import LlamaCppServer, LlamaCppSettings
from serving.model import PromptFormat, ServedModel
from training.errors import ModelError

_CACHE_SHARE = 0.25
_PROBES = (
    "The quick brown fox jumps over the lazy dog, and then  two  spaces.",
    "def main():\n    return {'a': 1_000}\n\n\n  x",
    "Ünïcödé, 日本語 and 🦊: it's I'LL 12345 naïve café.",
)
_FIRST_TOKENS = 4096
"""Tokens among which one with a space before its text is looked for."""


@dataclass(frozen=True)
class LlamaCppServedModel(ServedModel):
    """Model that llama.cpp computes.

    Attributes:
        path: GGUF file.
        metadata: Metadata of the file.
        cache_tokens: Number of tokens for which the memory has a place.
    """

    path: Path
    metadata: GgufMetadata
    cache_tokens: int

    def build_engine(self, max_running: int) -> LlamaCppEngine:
        """Load the weights, and return the engine.

        Args:
            max_running: Most answers in progress at the same time.

        Raises:
            ModelError: llama.cpp cannot load the file, or reads text as other tokens.
        """
        settings = self.server_settings(max_running)
        server = LlamaCppServer(settings)
        form = self.formats[None]
        _check_tokenizers(self.path, form.tokenizer, server)
        return LlamaCppEngine(
            server,
            max_running,
            settings.cache_tokens,
            drops_space=_drops_space(form, self.vocabulary),
        )

    def server_settings(self, max_running: int) -> LlamaCppSettings:
        """Return the settings of llama.cpp.

        Args:
            max_running: Most answers in progress at the same time.
        """
        cache_tokens = min(max_running * self.context, max(self.context, self.cache_tokens))
        architecture = self.metadata.architecture
        return LlamaCppSettings(
            self.path, architecture, max_running, cache_tokens, self.metadata.is_fp32
        )

    @property
    def description(self) -> str:
        """Way in which requests are answered."""
        return "requests share forward passes of llama.cpp"

    @property
    def scores_prompts(self) -> bool:
        """False: llama.cpp does not report the log-probabilities of a prompt."""
        return False


def llama_cpp_problem() -> str | None:
    """Return why llama.cpp cannot be used here; None if it can."""
    if find_spec("xllamacpp") is None:
        return 'llama.cpp is not installed: pip install "temper[llama-cpp]"'
    return None


def load_llama_cpp_model(
    name: str, source: str, path: Path, adapters: Mapping[str, str]
) -> LlamaCppServedModel:
    """Read the tokenizer and the metadata of a GGUF file; `build_engine` loads the weights.

    Args:
        name: Name by which requests mean the model.
        source: Model as the user named it.
        path: The GGUF file.
        adapters: Adapters that the user named: there can be none.

    Raises:
        ModelError: The file or its tokenizer cannot be read, or there are adapters.
    """
    if (problem := llama_cpp_problem()) is not None:
        raise ModelError(problem)
    if adapters:
        raise ModelError(
            f"adapters ({', '.join(adapters)}) cannot be served with the GGUF file {path}: serve "
            f"the safetensors of the base, or export each adapter, which merges it"
        )
    metadata = read_metadata(path)
    tokenizer = load_gguf_tokenizer(path, metadata)
    form = PromptFormat.from_tokenizer(tokenizer, metadata.end_ids)
    free = int(psutil.virtual_memory().available)
    cache_tokens = max(1, int(_CACHE_SHARE * free / metadata.cache_bytes))
    context = min(metadata.context, cache_tokens)
    return LlamaCppServedModel(
        name, source, {None: form}, context, metadata.vocabulary, path, metadata, cache_tokens
    )


def load_gguf_tokenizer(path: Path, metadata: GgufMetadata) -> Any:
    """Return the tokenizer of a GGUF file.

    Args:
        path: The file.
        metadata: Its metadata.

    Raises:
        ModelError: Transformers cannot read it.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:
        raise ModelError(
            f"the tokenizer of {path} (architecture {metadata.architecture}) could not be read: "
            f"{error}"
        ) from error


def _check_tokenizers(path: Path, tokenizer: Any, server: LlamaCppServer) -> None:
    """Compare the tokens of texts with those of llama.cpp.

    Raises:
        ModelError: They differ.
    """
    for text in _PROBES:
        mine, theirs = list(tokenizer(text)["input_ids"]), server.tokenize(text)
        if mine != theirs:
            raise ModelError(
                f"{path} cannot be served: Transformers and llama.cpp read text as different "
                f"tokens ({text[:20]!r}: {mine[:6]} and {theirs[:6]}), and one of them not as in "
                f"training. Export the file again, or serve the safetensors"
            )


def _drops_space(form: PromptFormat, vocabulary: int) -> bool:
    """Return whether the tokenizer's decoder removes the space at the beginning of a text."""
    texts, tokenizer = form.token_texts, form.tokenizer
    for token in range(min(vocabulary, _FIRST_TOKENS)):
        text = texts[token]
        if text.startswith(" ") and len(text) > 1:
            return not str(tokenizer.decode([token])).startswith(" ")
    return False
