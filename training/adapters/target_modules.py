"""Target modules of a job: checked against the model's modules and passed to PEFT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

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
    _check(model, adapter.target_modules, "adapter.target_modules")
    _check(model, adapter.modules_to_save, "adapter.modules_to_save")
    targets = adapter.target_modules
    return {
        "task_type": task_of(model),
        "target_modules": targets if isinstance(targets, str) else list(targets),
        "modules_to_save": list(adapter.modules_to_save) or None,
    }


def _check(model: PreTrainedModel, targets: str | Iterable[str], key: str) -> None:
    if isinstance(targets, str):
        return
    names = [name for name, _ in model.named_modules()]
    missing = [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in names)]
    if missing:
        available = {n.split(".")[-1] for n, m in model.named_modules() if _has_matrix(m)}
        raise ModelError(
            f"{key}: this model has no module {', '.join(missing)}. It has "
            f"{', '.join(sorted(available))}"
        )


def _has_matrix(module: torch.nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.dim() >= 2
