"""Module names a job writes, checked against the modules a model has."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from training.errors import ModelError


def check_targets(model: PreTrainedModel, targets: str | Iterable[str], key: str) -> None:
    """Raise when a name in `targets` is the end of no module's name.

    Args:
        model: The model without its adapter.
        targets: `all-linear`, or ends of module names.
        key: Where the job wrote them.

    Raises:
        ModelError: Lists the names there are.
    """
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
