"""Model that Transformers computes, with its adapters, loaded as evaluations load it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.models.gguf_model import SUFFIX, load_gguf
from evaluation.models.load import default_device, model_folder
from serving.engine.adapters import AdapterSwitch
from serving.engine.cache_budget import cache_tokens
from serving.engine.engine import Engine, EngineLimits
from serving.engine.executor import BatchedExecutor, Executor, SequentialExecutor
from serving.engine.packed_executor import PackedExecutor
from serving.engine.probe import batch_problem
from serving.model import NO_LENGTH_LIMIT, PromptFormat, ServedModel
from serving.transformers_adapters import TransformersAdapters, adapter_folder
from training.errors import ModelError
from training.models.context_length import context_length
from training.models.inference import load_for_inference

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransformersServedModel(ServedModel):
    """Model that Transformers computes.

    Attributes:
        executor: Its forward passes.
        cache_tokens: Number of tokens that the cache may hold.
        batched: Whether requests share forward passes.
        loader: Its adapters.
    """

    executor: Executor
    cache_tokens: int
    batched: bool
    loader: TransformersAdapters

    def build_engine(self, max_running: int) -> Engine:
        """Return the engine of continuous batching."""
        tokenizers = {form.adapter: form.tokenizer for form in self.formats.values()}
        ends = {form.adapter: form.end_ids for form in self.formats.values()}
        limits = EngineLimits(max_running, cache_tokens=self.cache_tokens)
        engine = Engine(self.executor, tokenizers, ends, limits)
        self.loader.attach(engine)
        return engine

    @property
    def adapter_manager(self) -> TransformersAdapters:
        """Loading and unloading of adapters."""
        return self.loader

    @property
    def description(self) -> str:
        """Way in which requests are answered."""
        return "requests share forward passes" if self.batched else "one request at a time"


def load_transformers_model(
    name: str, source: str, adapters: Mapping[str, str], max_rank: int | None = None
) -> TransformersServedModel:
    """Load a model and adapters.

    Args:
        name: Name by which requests mean the model.
        source: Run folder, folder of a model or an adapter, or Hub id.
        adapters: Run folder or folder of each further adapter, by the name that requests use.
        max_rank: Highest rank of an adapter, also of one that is loaded later; None for any.

    Raises:
        ModelError: One of them does not exist, cannot be read, or cannot be served.
    """
    folder = model_folder(source)
    folders = {adapter: adapter_folder(path) for adapter, path in adapters.items()}
    manager = TransformersAdapters(folder, max_rank)
    configs = manager.read(folders)
    model, tokenizer = _load(source, folder)
    end = model.generation_config.eos_token_id
    switch = AdapterSwitch(model)
    formats = manager.start(switch, folders, configs)
    formats[None] = PromptFormat.from_tokenizer(tokenizer, end)
    executor, batched = _executor(switch)
    context = context_length(model) or NO_LENGTH_LIMIT
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return TransformersServedModel(
        name, source, formats, context, vocabulary, executor, cache_tokens(model), batched, manager
    )


def _load(source: str, folder: str) -> tuple[Any, Any]:
    """Return a model, dequantized if it is a GGUF file, and its tokenizer.

    Raises:
        ModelError: It does not exist or cannot be read.
    """
    path = Path(folder)
    if path.suffix == SUFFIX and path.is_file():
        model, tokenizer, _ = load_gguf(path, default_device())
        return model, tokenizer
    return load_for_inference(source, folder, default_device())


def _executor(switch: AdapterSwitch) -> tuple[Executor, bool]:
    """Return the fastest executor that computes a model, and whether requests share forward passes.

    Raises:
        ModelError: The model cannot be continued from a cache.
    """
    problem = None
    for kind in (PackedExecutor, BatchedExecutor, SequentialExecutor):
        executor = kind(switch)
        if (found := batch_problem(switch.model, executor)) is None:
            shared = kind is not SequentialExecutor
            if not shared:
                logger.warning("Requests do not share forward passes of this model: %s", problem)
            return executor, shared
        logger.info("%s does not compute this model: %s", kind.__name__, found)
        problem = found
    raise ModelError(f"the model cannot be served: {problem}")
