"""Model that Transformers computes, with its adapters, loaded as evaluations load it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.models.load import default_device, model_folder
from serving.engine.adapters import AdapterSwitch
from serving.engine.cache_budget import cache_tokens
from serving.engine.engine import Engine, EngineLimits
from serving.engine.executor import BatchedExecutor, Executor, SequentialExecutor
from serving.engine.probe import batch_problem
from serving.model import NO_LENGTH_LIMIT, PromptFormat, ServedModel
from training.config.model import Model
from training.errors import ModelError
from training.evaluation.multi_adapter import read_adapters, with_adapters
from training.models.context_length import context_length
from training.models.inference import load_for_inference
from training.models.tokenizer import load_tokenizer
from training.run_folder import RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransformersServedModel(ServedModel):
    """Model that Transformers computes.

    Attributes:
        executor: Its forward passes.
        cache_tokens: Number of tokens that the cache may hold.
        batched: Whether requests share forward passes.
    """

    executor: Executor
    cache_tokens: int
    batched: bool

    def build_engine(self, max_running: int) -> Engine:
        """Return the engine of continuous batching."""
        tokenizers = {name: form.tokenizer for name, form in self.formats.items()}
        ends = {name: form.end_ids for name, form in self.formats.items()}
        limits = EngineLimits(max_running, cache_tokens=self.cache_tokens)
        return Engine(self.executor, tokenizers, ends, limits)

    @property
    def description(self) -> str:
        """Way in which requests are answered."""
        return "requests share forward passes" if self.batched else "one request at a time"


def load_transformers_model(
    name: str, source: str, adapters: Mapping[str, str]
) -> TransformersServedModel:
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
    context = context_length(model) or NO_LENGTH_LIMIT
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return TransformersServedModel(
        name, source, formats, context, vocabulary, executor, cache_tokens(model), batched
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
