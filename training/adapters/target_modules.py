"""Module names a job writes, checked against the modules a model has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from transformers import PreTrainedModel

from training.errors import ModelError


class TargetModules(Protocol):
    """What an adapter's section says of modules."""

    @property
    def target_modules(self) -> str | Iterable[str]:
        """`all-linear`, or ends of the names of modules that it is on."""

    @property
    def modules_to_save(self) -> Iterable[str]:
        """Ends of the names of modules that are trained in full beside it."""


def check_targets(model: PreTrainedModel, adapter: TargetModules) -> None:
    """Raise when a module that an adapter names is the end of no module's name.

    Args:
        model: The model without its adapter.
        adapter: The job's section.

    Raises:
        ModelError: Lists the names there are.
    """
    _check(model, adapter.target_modules, "adapter.target_modules")
    _check(model, adapter.modules_to_save, "adapter.modules_to_save")


def _check(model: PreTrainedModel, targets: str | Iterable[str], key: str) -> None:
    if isinstance(targets, str):
        return
    names = [name for name, _ in model.named_modules()]
    missing = [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in names)]
    if missing:
        linear = {n.split(".")[-1] for n, m in model.named_modules() if _holds_matrix(m)}
        raise ModelError(
            f"{key}: this model has no module {', '.join(missing)}. It has "
            f"{', '.join(sorted(linear))}"
        )


def _holds_matrix(module: torch.nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.dim() >= 2
