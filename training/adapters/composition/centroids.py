"""Where the rows of each adapter's task lie: what routing by centroid compares an input with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from training.adapters.composition.members import INSIDE
from training.adapters.composition.tuner import ComposedConfig, ComposedLayer, numbered
from training.config import Job, load_job
from training.config.composition import Composition, Route, combiner_from
from training.config.load import parse_job
from training.data.prepare import prepare
from training.data.storage.table import RowTable
from training.errors import ModelError, TemperError


def set_centroids(
    tuned: PeftModel, composition: Composition, tokenizer: PreTrainedTokenizerBase, longest: int
) -> None:
    """Write the means of the members' own rows into the layer that decides.

    Args:
        tuned: The model with the composition on it.
        composition: As the job writes it out.
        tokenizer: Of the model.
        longest: Tokens of a row that are read.

    Raises:
        ModelError: It is not known what an adapter was trained on.
    """
    config = cast(ComposedConfig, tuned.peft_config["default"])
    layer = cast(ComposedLayer, tuned.get_submodule(f"{INSIDE}{config.decides}"))
    modules = {**layer.composed_kept["default"], **layer.composed_learned["default"]}
    names = {id(part): name for name, part in numbered(config.tree).items()}
    for tree, given in _written_out(config.tree, composition):
        how = combiner_from(tree["how"])
        if not isinstance(how, Route) or how.by != "centroid":
            continue
        place: Any = modules[names[id(tree)]]
        for index, (member, content) in enumerate(given.adapters.items()):
            sources = [how.examples[member]] if member in how.examples else list(_folders(content))
            rows = [
                row
                for source in sources
                for row in _rows(source, member, tokenizer, longest, how.rows)
            ]
            place.centroids.data[index] = _mean(tuned, layer, rows).to(place.centroids)


def _written_out(tree: Any, given: Composition) -> Iterator[tuple[Any, Composition]]:
    """Yield the compositions of a job, each with its part of the tree."""
    if "how" not in tree:
        return
    yield tree, given
    for part, content in zip(tree["members"], given.adapters.values(), strict=True):
        if isinstance(content, Composition):
            yield from _written_out(part, content)


def _folders(content: str | Composition) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    for below in content.adapters.values():
        yield from _folders(below)


def _rows(
    source: str, member: str, tokenizer: PreTrainedTokenizerBase, longest: int, number: int
) -> list[list[int]]:
    """Return token ids of rows of a task.

    Args:
        source: An adapter's folder, or rows as `data.train` names them.
        member: Whose they are.
        tokenizer: Of the model.
        longest: Tokens of a row that are read.
        number: How many rows at most.
    """
    try:
        job = _job(source, member, longest, number)
        with TemporaryDirectory() as place:
            table = prepare(job, tokenizer, cache_dir=Path(place), run_dir=Path(place)).train
            assert isinstance(table, RowTable), "streaming is switched off"
            return [list(table[index]["input_ids"]) for index in range(len(table))]
    except TemperError as error:
        raise ModelError(
            f"compose.method: the centroid of {member} is the mean of rows of its task, and those of "
            f"{source} cannot be read: {error}. Name rows in how.examples.{member}"
        ) from error


def _job(source: str, member: str, longest: int, number: int) -> Job:
    folder = Path(source)
    plain = {"max_length": longest, "limit": number, "workers": 1}
    if not (folder / "adapter_config.json").is_file():
        document = {
            "name": "examples",
            "model": {"source": "unused"},
            "data": {"train": source, **plain},
            "method": {"kind": "sft"},
            "train": {},
        }
        job = parse_job(document, "examples")
        assert isinstance(job, Job)
        return job
    if not (folder.parent / "job.yaml").is_file():
        raise ModelError(f"no job.yaml lies beside {folder}")
    found = load_job(folder.parent / "job.yaml")
    assert isinstance(found, Job), "a run's own job"
    none = {"packing": False, "streaming": False, "replay": None, "terms": ()}
    held = {"validation": type(found.data.validation)()}
    return found.model_copy(
        update={"data": found.data.model_copy(update={**plain, **none, **held})}
    )


def _mean(tuned: PeftModel, layer: ComposedLayer, rows: list[list[int]]) -> Tensor:
    """Return the mean over rows of the mean over tokens of what a layer reads, [inputs]."""
    means: list[Tensor] = []

    def note(_: Any, inputs: Any, named: dict[str, Any]) -> None:
        x = inputs[0] if inputs else named["hidden_states"]
        means.append(x[0].float().mean(dim=0))

    hook = layer.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with torch.no_grad(), tuned.disable_adapter():
            for row in rows:
                tuned(input_ids=torch.tensor([row], device=tuned.device), use_cache=False)
    finally:
        hook.remove()
    return torch.stack(means).mean(dim=0)
