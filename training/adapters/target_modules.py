"""Target modules of a job: checked against the model's modules and passed to PEFT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from training.adapters.layer_selection import check_layers, linear_names
from training.config.adapter_base import LayerSelection
from training.errors import ModelError
from training.models.heads import task_of


class TargetModules(Protocol):
    """Keys of an adapter's section that name modules."""

    @property
    def target_modules(self) -> str | Iterable[str]:
        """`all-linear`, or suffixes of the names of the targeted modules."""

    @property
    def modules_to_save(self) -> Iterable[str]:
        """Suffixes of the names of modules that are trained in full and saved with the adapter."""


def module_options(model: PreTrainedModel, adapter: TargetModules) -> dict[str, Any]:
    """Return the options of a PEFT configuration that depend on the model's modules.

    Args:
        model: The model without its adapter.
        adapter: The job's section.

    Raises:
        ModelError: The job names a module that the model does not have.
    """
    problems = [
        *_missing(model, adapter.target_modules, "adapter.target_modules"),
        *_missing(model, adapter.modules_to_save, "adapter.modules_to_save"),
    ]
    selection = adapter if isinstance(adapter, LayerSelection) else LayerSelection()
    targets = adapter.target_modules
    problems += check_layers(model, selection, targets)
    if problems:
        raise ModelError("; ".join(problems))
    options: dict[str, Any] = {
        "task_type": task_of(model),
        "target_modules": targets if isinstance(targets, str) else list(targets),
        "modules_to_save": list(adapter.modules_to_save) or None,
    }
    if selection.layers_to_transform is not None:
        if isinstance(targets, str):
            options["target_modules"] = linear_names(model, selection)
        options["layers_to_transform"] = list(selection.layers_to_transform)
        options["layers_pattern"] = list(selection.layers_pattern) or None
    return options


def _missing(model: PreTrainedModel, targets: str | Iterable[str], key: str) -> Iterator[str]:
    if isinstance(targets, str):
        return
    names = [name for name, _ in model.named_modules()]
    missing = [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in names)]
    if missing:
        available = {n.split(".")[-1] for n, m in model.named_modules() if _has_matrix(m)}
        yield (
            f"{key}: this model has no module {', '.join(missing)}. It has "
            f"{', '.join(sorted(available))}"
        )


def _has_matrix(module: torch.nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.dim() >= 2
