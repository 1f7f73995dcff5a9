"""Learning-rate multipliers: optimizer groups whose learning rate differs from the job's.

- Layer-wise decay: each layer learns `layer_decay` times as fast as the layer above it (Howard and
  Ruder 2018, arXiv:1801.06146).
- Gradual unfreezing: the top layer learns from the start; the others follow one by one, from the
  top down, over the first half of the run (same paper). Until then a layer's learning rate is zero.
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
_ABOVE_LAYERS = re.compile(r"(?:^|\.)(?:lm_head|norm|final_layer_norm|ln_f)\.")
UNFROZEN_BY = 0.5
"""Share of the run after which every layer learns."""


@dataclass(frozen=True)
class LrMultiplier:
    """Multiplier of a parameter's learning rate.

    Attributes:
        start: Share of the run before which the learning rate is zero.
        factor: Factor of the job's learning rate after that.
    """

    start: float = 0.0
    factor: float = 1.0


class LrMultipliers:
    """Learning-rate multipliers of all parameters of a model.

    Args:
        job: The run.
        names: Names of the parameters.
        max_steps: Optimizer steps of the complete run.
    """

    def __init__(self, job: Job, names: list[str], max_steps: int):
        self._gradual = _schedule(job).unfreeze == "gradual"
        self._decay = _schedule(job).layer_decay
        self._lora_plus = getattr(job.adapter, "lora_plus_ratio", 1.0)
        self._max_steps = max_steps
        self._num_layers = 1 + max((n for n in map(_layer, names) if n is not None), default=-1)

    @property
    def is_uniform(self) -> bool:
        """True if all parameters learn at the same rate from the start."""
        return not self._gradual and self._decay == 1.0 and self._lora_plus == 1.0

    def multiplier_of(self, name: str) -> LrMultiplier:
        """Return the multiplier of the parameter `name`."""
        depth = self._layers_above(name)
        start = UNFROZEN_BY * depth / max(self._num_layers, 1) if self._gradual else 0.0
        plus = self._lora_plus if ".lora_B." in name or ".lora_embedding_B" in name else 1.0
        return LrMultiplier(start, self._decay**depth * plus)

    def _layers_above(self, name: str) -> int:
        """Return the number of layers above a parameter; embeddings are below all of them."""
        layer = _layer(name)
        if layer is not None:
            return self._num_layers - 1 - layer
        return 0 if _ABOVE_LAYERS.search(name) else self._num_layers

    def partition(
        self, groups: Sequence[Sequence[str]]
    ) -> list[tuple[int, LrMultiplier, list[str]]]:
        """Divide groups of parameters into subgroups with the same multiplier.

        Subgroups that learn from the start at the job's learning rate come first: Transformers logs
        the learning rate of the first group.

        Args:
            groups: Parameter names of each group.

        Returns:
            The index of the original group, the multiplier and the names of each subgroup.
        """
        parts: dict[tuple[int, LrMultiplier], list[str]] = {}
        for number, names in enumerate(groups):
            for name in names:
                parts.setdefault((number, self.multiplier_of(name)), []).append(name)
        subgroups = [(number, rate, names) for (number, rate), names in parts.items()]
        return sorted(subgroups, key=lambda part: (part[1].start, abs(part[1].factor - 1)))

    def split_param_groups(self, optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
        """Divide the optimizer's parameter groups by multiplier, before its first step."""
        groups = optimizer.param_groups
        parameters = dict(model.named_parameters())
        names = {id(parameter): name for name, parameter in parameters.items()}
        subgroups = self.partition([[names[id(p)] for p in group["params"]] for group in groups])
        optimizer.param_groups = [
            {
                **groups[number],
                "params": [parameters[name] for name in part],
                "lr": groups[number]["lr"] * rate.factor,
            }
            for number, rate, part in subgroups
        ]
        self._start_steps = [int(rate.start * self._max_steps) for _, rate, _ in subgroups]

    def delay_groups(self, scheduler: torch.optim.lr_scheduler.LambdaLR) -> None:
        """Keep the learning rate of each group at zero until the group's start step."""
        pairs = zip(scheduler.lr_lambdas, self._start_steps, strict=True)
        scheduler.lr_lambdas = [_zero_before(start, factor) for factor, start in pairs]
        learning_rates = []
        # The scheduler set the first step's learning rates when it was built: set them once more.
        for group, base, factor in zip(
            scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(scheduler.last_epoch)
            learning_rates.append(group["lr"])
        scheduler._last_lr = learning_rates


def first_fully_trainable_step(job: Job, max_steps: int) -> int:
    """Return the first step of a run in which every trainable parameter learns."""
    gradual = int(UNFROZEN_BY * max_steps) if _schedule(job).unfreeze == "gradual" else 0
    return max(gradual, job.method.warmup_steps)


def _schedule(job: Job) -> LrSchedule:
    if job.adapter is None:
        return job.train
    return job.adapter if isinstance(job.adapter, LrSchedule) else LrSchedule()


def _zero_before(start: int, factor: Callable[[int], float]) -> Callable[[int], float]:
    return lambda step: factor(step) if step >= start else 0.0


def _layer(name: str) -> int | None:
    match = _LAYER.search(name)
    return int(match[1]) if match else None
