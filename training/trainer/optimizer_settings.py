"""Hyperparameters of an optimizer, apart from its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_HYPERPARAMETERS = ("weight_decay", "betas", "eps", "momentum", "initial_lr")


@dataclass(frozen=True)
class OptimizerSettings:
    """Hyperparameters of an optimizer and its scheduler, which their states contain as well.

    Attributes:
        groups: Hyperparameters of each parameter group.
        base_lrs: Learning rate of each group before the schedule.
    """

    groups: tuple[dict[str, Any], ...]
    base_lrs: tuple[float, ...]

    @classmethod
    def of(cls, optimizer: Any, scheduler: Any) -> OptimizerSettings:
        """Return the hyperparameters that an optimizer has now."""
        groups = getattr(optimizer, "param_groups", ())
        settings = tuple({k: g[k] for k in _HYPERPARAMETERS if k in g} for g in groups)
        return cls(settings, tuple(getattr(_inner(scheduler), "base_lrs", ())))

    def restore(self, optimizer: Any, scheduler: Any) -> None:
        """Put them back after a state was loaded, at the place of the schedule that it has.

        Args:
            optimizer: The optimizer.
            scheduler: Its scheduler.
        """
        inner = _inner(scheduler)
        rates = []
        for group, own, new, old in zip(
            optimizer.param_groups, self.groups, self.base_lrs, inner.base_lrs, strict=True
        ):
            group.update(own)
            group["lr"] = group["lr"] * new / old if old else new
            rates.append(group["lr"])
        inner.base_lrs = list(self.base_lrs)
        inner._last_lr = rates


def _inner(scheduler: Any) -> Any:
    """Return the scheduler that Accelerate has wrapped."""
    return getattr(scheduler, "scheduler", scheduler)
