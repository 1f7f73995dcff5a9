"""Which parameter learns at which rate, and from when on.

- Layer-wise decay: each layer learns `layer_decay` times as fast as the one above it (Howard and
  Ruder 2018, arXiv:1801.06146).
- Gradual unfreezing: the top layer learns from the start; the others join one by one, from the top
  down, over the first half of the run (same paper). Until then a layer's rate is zero.
- LoRA+: B learns `lora_plus_ratio` times as fast as A (Hayou et al. 2024, arXiv:2402.12354).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from training.config import Job
from training.config.train import LrSchedule

_LAYER = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")
_ABOVE = re.compile(r"(?:^|\.)(?:lm_head|norm|final_layer_norm|ln_f)\.")
UNFROZEN_BY = 0.5
"""Share of the run by which every layer learns."""


@dataclass(frozen=True)
class LrMultiplier:
    """How a parameter's learning rate differs from the job's.

    Attributes:
        start: Share of the run before which it is zero.
        factor: What it is multiplied by after that.
    """

    start: float = 0.0
    factor: float = 1.0


class LrMultipliers:
    """The rates of all parameters of a model.

    Args:
        job: The run.
        names: The parameters' names.
        max_steps: Optimizer steps of the whole run.
    """

    def __init__(self, job: Job, names: list[str], max_steps: int):
        self._gradual = _schedule(job).unfreeze == "gradual"
        self._decay = _schedule(job).layer_decay
        self._plus = getattr(job.adapter, "lora_plus_ratio", 1.0)
        self._max_steps = max_steps
        self._layers = 1 + max((n for n in map(_layer, names) if n is not None), default=-1)

    @property
    def uniform(self) -> bool:
        """Whether all parameters learn at one rate from the start."""
        return not self._gradual and self._decay == 1.0 and self._plus == 1.0

    def of(self, name: str) -> LrMultiplier:
        """Return the rate of the parameter called `name`."""
        below = self._below_top(name)
        start = UNFROZEN_BY * below / max(self._layers, 1) if self._gradual else 0.0
        plus = self._plus if ".lora_B." in name or ".lora_embedding_B" in name else 1.0
        return LrMultiplier(start, self._decay**below * plus)

    def _below_top(self, name: str) -> int:
        """Return how many layers are above a parameter."""
        layer = _layer(name)
        if layer is not None:
            return self._layers - 1 - layer
        return 0 if _ABOVE.search(name) else self._layers

    def _step(self, share: float) -> int:
        return int(share * self._max_steps)

    def divide(self, groups: Sequence[Sequence[str]]) -> list[tuple[int, LrMultiplier, list[str]]]:
        """Divide groups of parameters into such of one rate.

        What learns from the start at the job's own rate comes first.

        Args:
            groups: Names, by group.

        Returns:
            For each part the group it came from, its rate, and its names.
        """
        parts: dict[tuple[int, LrMultiplier], list[str]] = {}
        for number, names in enumerate(groups):
            for name in names:
                parts.setdefault((number, self.of(name)), []).append(name)
        found = [(number, rate, names) for (number, rate), names in parts.items()]
        return sorted(found, key=lambda part: (part[1].start, abs(part[1].factor - 1)))

    def split(self, optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
        """Divide an optimizer's groups, before its first step."""
        groups = optimizer.param_groups
        parameters = dict(model.named_parameters())
        names = {id(parameter): name for name, parameter in parameters.items()}
        divided = self.divide([[names[id(p)] for p in group["params"]] for group in groups])
        optimizer.param_groups = [
            {
                **groups[number],
                "params": [parameters[name] for name in part],
                "lr": groups[number]["lr"] * rate.factor,
            }
            for number, rate, part in divided
        ]
        self._starts = [self._step(rate.start) for _, rate, _ in divided]

    def delay_groups(self, scheduler: torch.optim.lr_scheduler.LambdaLR) -> None:
        """Keep each group's rate at zero until it may learn."""
        pairs = zip(scheduler.lr_lambdas, self._starts, strict=True)
        scheduler.lr_lambdas = [_from(start, shape) for shape, start in pairs]
        lasts = []
        for group, base, shape in zip(
            scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = base * shape(scheduler.last_epoch)
            lasts.append(group["lr"])
        scheduler._last_lr = lasts


def first_fully_trainable_step(job: Job, max_steps: int) -> int:
    """Return the first step of a run in which every parameter learns."""
    gradual = int(UNFROZEN_BY * max_steps) if _schedule(job).unfreeze == "gradual" else 0
    return max(gradual, job.method.waits_steps)


def _schedule(job: Job) -> LrSchedule:
    if job.adapter is None:
        return job.train
    return job.adapter if isinstance(job.adapter, LrSchedule) else LrSchedule()


def _from(start: int, shape: Callable[[int], float]) -> Callable[[int], float]:
    return lambda step: shape(step) if step >= start else 0.0


def _layer(name: str) -> int | None:
    found = _LAYER.search(name)
    return int(found[1]) if found else None
