"""Model that is served: the form of its prompts, and the engine that answers with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self

from serving.engine.base import AnswerEngine
from serving.engine.token_texts import TokenTexts
from training.data.tokenization.row_tokenizer import RowTokenizer

NO_LENGTH_LIMIT = 1 << 20


@dataclass(frozen=True)
class PromptFormat:
    """Form in which one served model reads prompts and ends answers.

    Attributes:
        tokenizer: Tokenizer.
        rows: Formats conversations as in the model's training.
        end_ids: Tokens that end an answer.
        adapter: Name of its adapter in the engine; None for the model itself.
    """

    tokenizer: Any
    rows: RowTokenizer
    end_ids: frozenset[int]
    adapter: str | None = None

    @classmethod
    def from_tokenizer(
        cls, tokenizer: Any, generation_end: Any, adapter: str | None = None
    ) -> PromptFormat:
        """Return the form for a tokenizer.

        Args:
            tokenizer: Tokenizer.
            generation_end: `eos_token_id` of the model's generation config.
            adapter: Name of the adapter in the engine; None for the model itself.
        """
        rows = RowTokenizer.from_tokenizer(
            tokenizer, chat_template=None, want="prompt", max_length=NO_LENGTH_LIMIT
        )
        own = [generation_end] if isinstance(generation_end, int) else generation_end or ()
        return cls(tokenizer, rows, frozenset({*rows.end_ids, *own}), adapter)

    @cached_property
    def token_texts(self) -> TokenTexts:
        """Texts of single tokens."""
        return TokenTexts(self.tokenizer)


class AdapterManager(Protocol):
    """Loading and unloading of adapters while a model serves."""

    @property
    def sources(self) -> Mapping[str, str]:
        """Folder of each adapter by its name."""

    def load(self, name: str, source: str) -> None:
        """Load an adapter, and return when requests can name it.

        Raises:
            RequestError: It cannot be loaded.
        """

    def unload(self, name: str) -> None:
        """Let no further request name an adapter; its weights are freed after its answers.

        Raises:
            RequestError: There is no such adapter.
        """


@dataclass(frozen=True)
class ServedModel(ABC):
    """Model in memory.

    Attributes:
        name: Name by which requests mean the model itself.
        source: Folder, file or Hub id, as the user wrote it.
        formats: Form of prompts of the model (None) and of each adapter, by the name in requests.
        context: Longest prompt and answer together, in tokens.
        vocabulary: Number of token ids that the model reads.
    """

    name: str
    source: str
    formats: Mapping[str | None, PromptFormat]
    context: int
    vocabulary: int

    @abstractmethod
    def build_engine(self, max_running: int) -> AnswerEngine:
        """Return an engine that answers with the model.

        Args:
            max_running: Most answers in progress at the same time.
        """

    @property
    @abstractmethod
    def description(self) -> str:
        """Way in which requests are answered, for the user."""

    @property
    def scores_prompts(self) -> bool:
        """True if the engine reports the log-probabilities of a prompt's own tokens."""
        return True

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters."""
        return tuple(name for name in tuple(self.formats) if name is not None)

    @property
    def adapter_manager(self) -> AdapterManager | None:
        """Loading and unloading of adapters while it serves; None if the engine has none."""
        return None

    def with_context(self, limit: int | None) -> Self:
        """Return the model with a shorter context, if there is a limit."""
        return self if limit is None else replace(self, context=min(limit, self.context))
