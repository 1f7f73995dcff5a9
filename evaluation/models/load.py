"""Lookup of the model that a user names: a run, a folder or a Hub id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from evaluation.config.suite import Suite
from evaluation.items import Item
from evaluation.models.base import EvaluatedModel
from evaluation.models.gguf_model import find_gguf
from evaluation.models.sources import ModelSource
from evaluation.scores.base import ScoreContext
from training.errors import ModelError
from training.judges.base import JudgeContext
from training.run_folder import RunFolder

if TYPE_CHECKING:
    from evaluation.models.endpoint_model import EndpointModel


def prepare_models(
    sources: Sequence[ModelSource],
    context: ScoreContext,
    batch_size: int,
    suite: Suite,
    items: Mapping[str, Sequence[Item]],
) -> list[Callable[[], EvaluatedModel]]:
    """Return a function for each model that loads it; endpoints are examined now.

    Args:
        sources: The models.
        context: Folder, cache and cost limit of the evaluation.
        batch_size: Sequences per forward pass of a local model.
        suite: The suite.
        items: Items of each task.

    Raises:
        ModelError: An endpoint does not return what the suite needs.
        RunError: An endpoint cannot be reached, or a key or a price is missing.
    """
    endpoints = [_endpoint(source, context) for source in sources]
    for endpoint in filter(None, endpoints):
        endpoint.prepare(suite, items)
    return [
        partial(load_model, source.name, batch_size)
        if endpoint is None
        else partial(_same, endpoint)
        for source, endpoint in zip(sources, endpoints, strict=True)
    ]


def _endpoint(source: ModelSource, context: ScoreContext) -> EndpointModel | None:
    if source.endpoint is None:
        return None
    from evaluation.models.endpoint_model import EndpointModel

    judge_context = JudgeContext(
        context.device,
        context.folder,
        context.cache,
        context.max_cost_usd,
        role="endpoint",
        limit_key="--max-cost",
    )
    return EndpointModel(source.name, source.endpoint, judge_context)


def _same(model: EvaluatedModel) -> EvaluatedModel:
    return model


def load_model(source: str, batch_size: int) -> EvaluatedModel:
    """Return the model that a user names, on this machine's accelerator if it has one.

    Args:
        source: Run folder, folder of a model or an adapter, GGUF file, or Hub id.
        batch_size: Sequences per forward pass.

    Raises:
        ModelError: The model does not exist or cannot be read, or the run has none.
    """
    from evaluation.models.transformers_model import TransformersModel

    return TransformersModel(source, model_folder(source), default_device(), batch_size)


def default_device() -> torch.device:
    """Return this machine's accelerator, or the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if accelerator is None else accelerator


def model_folder(source: str) -> str:
    """Return the folder of the model that a source names, or its GGUF file.

    Args:
        source: Run folder, folder of a model or an adapter, GGUF file, or Hub id.

    Raises:
        ModelError: The run has no model, or the folder has several GGUF files.
    """
    run = RunFolder(Path(source))
    if run.state is None:
        return str(find_gguf(source) or source)
    if run.merged.is_dir():
        return str(run.merged)
    if run.model.is_dir():
        return str(run.model)
    raise ModelError(
        f"the run {source} is {run.state} and has no model. Name a run that is finished, or one "
        f"of its checkpoints"
    )
