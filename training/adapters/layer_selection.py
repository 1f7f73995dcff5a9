"""Choice of the layers that get an adapter: checked against the model, in the form PEFT takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from peft import LoraConfig
from peft.tuners.tuners_utils import _maybe_include_all_linear_layers
from transformers import PreTrainedModel

from training.config.adapter_base import LayerSelection
from training.models.heads import task_of

_FIRST_NUMBER = r"[^.]*"


def check_layers(
    model: PreTrainedModel, selection: LayerSelection, targets: str | Iterable[str]
) -> Iterator[str]:
    """Yield the problems of a choice of layers that this model does not have.

    Args:
        model: The model without its adapter.
        selection: The job's section.
        targets: Its target modules.
    """
    chosen = selection.layers_to_transform
    if chosen is None:
        return
    names = [name for name, _ in model.named_modules()]
    for pattern in selection.layers_pattern:
        if not any(_layer_in(f"{name}.", pattern) is not None for name in names):
            yield (
                f"adapter.layers_pattern: this model has no list of layers named {pattern}. It has "
                f"{', '.join(sorted(_lists(names)))}"
            )
    index_of = {name: layer_index(f"{name}.", selection.layers_pattern) for name in names}
    indices = {index for index in index_of.values() if index is not None}
    if absent := sorted(set(chosen) - indices):
        available = f"layers {min(indices)} to {max(indices)}" if indices else "no numbered layers"
        yield (
            f"adapter.layers_to_transform: this model has no layer "
            f"{', '.join(map(str, absent))}. It has {available}"
        )
        return
    inside = [name for name, index in index_of.items() if index in chosen]
    for target in () if isinstance(targets, str) else targets:
        somewhere = any(name == target or name.endswith(f".{target}") for name in names)
        if somewhere and not any(name.endswith(f".{target}") for name in inside):
            # PEFT leaves it out without a word.
            yield (
                f"adapter.target_modules: {target} is in none of the layers "
                f"{', '.join(map(str, chosen))} of layers_to_transform. Leave it out, or train it "
                f"in full with modules_to_save"
            )


def linear_names(model: PreTrainedModel, selection: LayerSelection) -> list[str]:
    """Return `all-linear` as names, because PEFT refuses it together with layers.

    A name is the last part of a module's path, or the path within the layer where the last part
    would also fit other modules.
    """
    config = LoraConfig(task_type=task_of(model), target_modules="all-linear")
    linear = set(_maybe_include_all_linear_layers(config, model).target_modules or ())
    inside = {
        name: index
        for name, _ in model.named_modules()
        if (index := layer_index(name, selection.layers_pattern)) is not None
    }
    wanted = linear & inside.keys()
    short = {name.rpartition(".")[2] for name in wanted}
    if {name for name in inside if name.rpartition(".")[2] in short} == wanted:
        return sorted(short)
    return sorted({name.split(f".{inside[name]}.", 1)[1] for name in wanted})


def layer_index(name: str, patterns: tuple[str, ...] = ()) -> int | None:
    """Return the index of the layer that a module is in; None if it is in none.

    It is the first number of the module's path, or the first after one of the patterns, as in
    PEFT's `check_target_module_exists`.
    """
    found = (_layer_in(name, pattern) for pattern in patterns or (_FIRST_NUMBER,))
    return next((index for index in found if index is not None), None)


def _layer_in(name: str, pattern: str) -> int | None:
    before = r"(?:^|.*?\.)" if pattern != _FIRST_NUMBER else r".*?\."
    match = re.match(rf"{before}{pattern}\.(\d+)\.", name)
    return int(match[1]) if match else None


def _lists(names: list[str]) -> set[str]:
    """Return the names of the module lists of a model."""
    return {match[1] for name in names if (match := re.search(r"([^.]+)\.\d+$", name))}
