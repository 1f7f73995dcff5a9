"""What every way of meeting is: in each layer, a module that says how much each member counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from training.config.composition import CombinerConfig


@dataclass
class ForwardState:
    """One pass through the model, which all its layers share.

    Attributes:
        goes_on: Whether it goes on with rows whose beginning an earlier pass saw (an answer is
            written one token at a time).
        seen: Which tokens count, [batch, length]; None where all do.
        decided: What one layer decided for all, by the name of what decided.
    """

    goes_on: bool = False
    seen: torch.Tensor | None = None
    decided: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class CombinerInput:
    """What a way of meeting may look at in a layer.

    Attributes:
        x: What the layer reads, [batch, length, inputs].
        y: What the layer says by itself, [batch, length, outputs].
        agree: How far what each member adds points along a direction: [..., outputs] to
            [..., members].
        under_way: The pass.
    """

    x: torch.Tensor
    y: torch.Tensor
    agree: Callable[[torch.Tensor], torch.Tensor]
    under_way: ForwardState


@dataclass(frozen=True)
class LayerSpec:
    """Where a way of meeting sits.

    Attributes:
        inputs: Width of what its layer reads.
        outputs: Width of what its layer says.
        members: How many meet.
        name: Tells it from others in the same adapter; the same in all layers.
        decides: Whether this layer is the one that decides where one does for all.
    """

    inputs: int
    outputs: int
    members: int
    name: str
    decides: bool


class Combiner(nn.Module):
    """How members meet in one layer.

    Args:
        how: The section of the job.
        seat: Where.
    """

    in_turn = False
    """Whether each member is put on what those before it made of the layer."""

    def __init__(self, how: CombinerConfig, seat: LayerSpec):
        super().__init__()
        self.seat = seat

    def shares(self, meeting: CombinerInput) -> torch.Tensor:
        """Return how much each member counts, [members] or [..., members]."""
        return self.fixed_shares()

    def fixed_shares(self) -> torch.Tensor:
        """Return how much each member counts whatever the input, [members].

        Raises:
            ValueError: The input decides.
        """
        raise ValueError("what its members count is decided by the input")


class RunningMean:
    """The mean of each place and all before it, carried on from pass to pass."""

    def __init__(self) -> None:
        self._sums: torch.Tensor | None = None
        self._count: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, under_way: ForwardState) -> torch.Tensor:
        """Return means in fp32; x is [batch, length, width], padding left out of them."""
        x = x.float()
        seen = torch.ones(x.shape[:2], device=x.device)
        if under_way.seen is not None and under_way.seen.shape[1] >= x.shape[1]:
            seen = under_way.seen[:, -x.shape[1] :].to(x.dtype)
        sums = (x * seen[..., None]).cumsum(dim=1)
        count = seen.cumsum(dim=1)
        if under_way.goes_on and self._sums is not None and self._count is not None:
            sums, count = sums + self._sums, count + self._count
        if not torch.is_grad_enabled():
            self._sums, self._count = sums[:, -1:].detach(), count[:, -1:].detach()
        return sums / count.clamp(min=1)[..., None]
