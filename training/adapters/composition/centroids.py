"""Centroids of the members' training rows, which routing by centroid compares an input with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from training.adapters.composition.members import PEFT_PREFIX
from training.adapters.composition.tuner import ComposedConfig, ComposedLayer, numbered
from training.config import Job, load_job
from training.config.composition import NONE, Composition, Route, combiner_from
from training.config.load import parse_job
from training.data.prepare import prepare
from training.data.storage.table import RowTable
from training.errors import ModelError, TemperError


def set_centroids(
    tuned: PeftModel, composition: Composition, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    """Set the centroids of every router to the means of its members' training rows.

    Args:
        tuned: The model with the composition.
        composition: The job's section.
        tokenizer: The model's tokenizer.
        max_length: Number of tokens read from a row.

    Raises:
        ModelError: The training rows of a member cannot be found or read.
    """
    config = cast(ComposedConfig, tuned.peft_config["default"])
    layer = cast(ComposedLayer, tuned.get_submodule(f"{PEFT_PREFIX}{config.decides}"))
    modules = {**layer.composed_kept["default"], **layer.composed_learned["default"]}
    names = {id(part): name for name, part in numbered(config.tree).items()}
    for tree, section in _compositions(config.tree, composition):
        combiner = combiner_from(tree["how"])
        if not isinstance(combiner, Route) or combiner.by != "centroid":
            continue
        router: Any = modules[names[id(tree)]]
        folders = {name: list(_folders(content)) for name, content in section.adapters.items()}
        sources_of = {**folders, **({NONE: []} if combiner.allow_none else {})}
        for index, (member, sources) in enumerate(sources_of.items()):
            if member in combiner.examples:
                sources = [combiner.examples[member]]
            rows = [
                row
                for source in sources
                for row in _rows(source, member, tokenizer, max_length, combiner.rows)
            ]
            router.centroids.data[index] = _mean_input(tuned, layer, rows).to(router.centroids)


def _compositions(tree: Any, section: Composition) -> Iterator[tuple[Any, Composition]]:
    """Yield every composition written out in the job with its part of the tree."""
    if "how" not in tree:
        return
    yield tree, section
    for part, content in zip(tree["members"], section.adapters.values(), strict=True):
        if isinstance(content, Composition):
            yield from _compositions(part, content)


def _folders(content: str | Composition) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    for member in content.adapters.values():
        yield from _folders(member)


def _rows(
    source: str, member: str, tokenizer: PreTrainedTokenizerBase, max_length: int, limit: int
) -> list[list[int]]:
    """Return the token ids of a member's training rows.

    Args:
        source: The adapter's folder, or a data source as in `data.train`.
        member: Name of the member.
        tokenizer: The model's tokenizer.
        max_length: Number of tokens read from a row.
        limit: Maximum number of rows.

    Raises:
        ModelError: The rows cannot be read.
    """
    try:
        job = _data_job(source, max_length, limit)
        with TemporaryDirectory() as scratch:
            table = prepare(job, tokenizer, cache_dir=Path(scratch), run_dir=Path(scratch)).train
            assert isinstance(table, RowTable), "streaming is off"
            return [list(table[index]["input_ids"]) for index in range(len(table))]
    except TemperError as error:
        raise ModelError(
            f"compose.method: the centroid of {member} is the mean of rows of its task, and those "
            f"of {source} cannot be read: {error}. Name rows in method.examples.{member}"
        ) from error


def _data_job(source: str, max_length: int, limit: int) -> Job:
    """Return a job whose data section reads the rows: the adapter's own job, if it has one.

    Raises:
        ModelError: The adapter's job does not exist.
    """
    folder = Path(source)
    limits = {"max_length": max_length, "limit": limit, "workers": 1}
    if not (folder / "adapter_config.json").is_file():
        document = {
            "name": "examples",
            "model": {"source": "unused"},
            "data": {"train": source, **limits},
            "method": {"kind": "sft"},
            "train": {},
        }
        job = parse_job(document, "examples")
        assert isinstance(job, Job)
        return job
    if not (folder.parent / "job.yaml").is_file():
        raise ModelError(f"no job.yaml exists next to {folder}")
    trained = load_job(folder.parent / "job.yaml")
    assert isinstance(trained, Job), "a run's own job"
    # Only training rows, in the order of the data: no mixing, packing or held-out part.
    off = {"packing": False, "streaming": False, "replay": None, "terms": ()}
    validation = type(trained.data.validation)()
    updates = {**limits, **off, "validation": validation}
    return trained.model_copy(update={"data": trained.data.model_copy(update=updates)})


def _mean_input(tuned: PeftModel, layer: ComposedLayer, rows: list[list[int]]) -> Tensor:
    """Return the layer's input, averaged over tokens and then over rows, `[inputs]`."""
    means: list[Tensor] = []

    def record(_: Any, inputs: Any, named: dict[str, Any]) -> None:
        x = inputs[0] if inputs else named["hidden_states"]
        means.append(x[0].float().mean(dim=0))

    hook = layer.register_forward_pre_hook(record, with_kwargs=True)
    try:
        with torch.no_grad(), tuned.disable_adapter():
            for row in rows:
                tuned(input_ids=torch.tensor([row], device=tuned.device), use_cache=False)
    finally:
        hook.remove()
    return torch.stack(means).mean(dim=0)
