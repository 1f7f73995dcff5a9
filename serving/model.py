"""Model that is served: weights, tokenizers and adapters, loaded as evaluations load them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation.models.load import default_device, model_folder
from serving.engine.adapters import AdapterSwitch
from serving.engine.cache_budget import cache_tokens
from serving.engine.executor import BatchedExecutor, Executor, SequentialExecutor
from serving.engine.probe import batch_problem
from serving.engine.token_texts import TokenTexts
from training.config.model import Model
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import ModelError
from training.evaluation.multi_adapter import read_adapters, with_adapters
from training.models.context_length import context_length
from training.models.inference import load_for_inference
from training.models.tokenizer import load_tokenizer
from training.run_folder import RunFolder

logger = logging.getLogger(__name__)
_NO_LENGTH_LIMIT = 1 << 20


@dataclass(frozen=True)
class PromptFormat:
    """Form in which one served model reads prompts and ends answers.

    Attributes:
        tokenizer: Tokenizer.
        rows: Formats conversations as in the model's training.
        end_ids: Tokens that end an answer.
    """

    tokenizer: Any
    rows: RowTokenizer
    end_ids: frozenset[int]

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, generation_end: Any) -> PromptFormat:
        """Return the form for a tokenizer.

        Args:
            tokenizer: Tokenizer.
            generation_end: `eos_token_id` of the model's generation config.
        """
        rows = RowTokenizer.from_tokenizer(
            tokenizer, chat_template=None, want="prompt", max_length=_NO_LENGTH_LIMIT
        )
        own = [generation_end] if isinstance(generation_end, int) else generation_end or ()
        return cls(tokenizer, rows, frozenset({*rows.end_ids, *own}))

    @cached_property
    def token_texts(self) -> TokenTexts:
        """Texts of single tokens."""
        return TokenTexts(self.tokenizer)


@dataclass(frozen=True)
class ServedModel:
    """Model in memory, with its adapters.

    Attributes:
        name: Name by which requests mean the model itself.
        source: Folder or Hub id, as the user wrote it.
        executor: Its forward passes.
        formats: Form of prompts of the model (None) and of each adapter.
        context: Longest prompt and answer together, in tokens.
        vocabulary: Number of token ids that the model reads.
        cache_tokens: Number of tokens that the cache may hold.
        batched: Whether requests share forward passes.
    """

    name: str
    source: str
    executor: Executor
    formats: Mapping[str | None, PromptFormat]
    context: int
    vocabulary: int
    cache_tokens: int
    batched: bool

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters."""
        return tuple(name for name in self.formats if name is not None)

    def with_context(self, limit: int | None) -> ServedModel:
        """Return the model with a shorter context, if there is a limit."""
        return self if limit is None else replace(self, context=min(limit, self.context))


def load_served_model(name: str, source: str, adapters: Mapping[str, str]) -> ServedModel:
    """Load a model and adapters.

    Args:
        name: Name by which requests mean the model.
        source: Run folder, folder of a model or an adapter, or Hub id.
        adapters: Run folder or folder of each further adapter, by the name that requests use.

    Raises:
        ModelError: One of them does not exist, cannot be read, or cannot be served.
    """
    folder = model_folder(source)
    folders = {adapter: adapter_folder(path) for adapter, path in adapters.items()}
    configs = read_adapters(folder, folders)
    for adapter, config in configs.items():
        if config.is_prompt_learning:
            raise ModelError(
                f"adapter {adapter}: {folders[adapter]} is a {config.peft_type.value.lower()}, "
                f"whose virtual tokens cannot share the cache. `temper answer` answers with it"
            )
    model, tokenizer = load_for_inference(source, folder, default_device())
    mixed = False
    if folders:
        model, mixed = with_adapters(model, folders, configs)
        model.eval().requires_grad_(False)
    switch = AdapterSwitch(model, tuple(folders), mixed=mixed)
    executor, batched = _executor(model, switch)
    end = model.generation_config.eos_token_id
    formats: dict[str | None, PromptFormat] = {None: PromptFormat.from_tokenizer(tokenizer, end)}
    for adapter, path in folders.items():
        formats[adapter] = PromptFormat.from_tokenizer(load_tokenizer(Model(source=path)), end)
    context = context_length(model) or _NO_LENGTH_LIMIT
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return ServedModel(
        name, source, executor, formats, context, vocabulary, cache_tokens(model), batched
    )


def adapter_folder(source: str) -> str:
    """Return the folder of an adapter that a user names: a run, or the folder itself."""
    run = RunFolder(Path(source))
    return source if run.state is None else str(run.model)


def _executor(model: Any, switch: AdapterSwitch) -> tuple[Executor, bool]:
    """Return the executor of a model, and whether requests share forward passes.

    Raises:
        ModelError: The model cannot be continued from a cache.
    """
    batched: Executor = BatchedExecutor(model, switch)
    problem = batch_problem(model, batched)
    if problem is None:
        return BatchedExecutor(model, switch), True
    single: Executor = SequentialExecutor(model, switch)
    if (worse := batch_problem(model, single)) is not None:
        raise ModelError(f"the model cannot be served: {worse}")
    logger.warning("Requests do not share forward passes of this model: %s", problem)
    return single, False
