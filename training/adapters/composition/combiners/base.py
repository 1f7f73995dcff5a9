"""Base class of the combiners and the values that a layer passes to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from training.config.composition import CombinerConfig


class WeightRecorder:
    """Recorder of the mean mixing weight of each member, over tokens and layers.

    Attributes:
        counted: Tokens that count, `[batch, length]`; set before each batch.
    """

    def __init__(self) -> None:
        self.counted: torch.Tensor | None = None
        self._sums: dict[str, torch.Tensor] = {}
        self._tokens: dict[str, float] = {}

    def add(self, name: str, weights: torch.Tensor) -> None:
        """Add the weights of one layer if it computes one for each token of the batch.

        Args:
            name: Name of the combiner, the same in all layers.
            weights: Mixing weights, `[batch, length, members]` or, the same for all inputs,
                `[members]`.
        """
        if self.counted is None or weights.shape[:-1] != self.counted.shape:
            return
        own = weights.detach().double()[self.counted].sum(dim=0)
        self._sums[name] = self._sums[name] + own if name in self._sums else own
        self._tokens[name] = self._tokens.get(name, 0.0) + float(self.counted.sum())

    def take(self) -> dict[str, tuple[list[float], float]]:
        """Return the summed weight of each member and the tokens, by combiner, and reset both."""
        recorded = {n: (sums.tolist(), self._tokens[n]) for n, sums in self._sums.items()}
        self._sums, self._tokens = {}, {}
        return recorded


@dataclass
class ForwardState:
    """State of one forward pass, shared by all composed layers of a model.

    Attributes:
        continues_rows: Whether the pass continues rows whose beginning an earlier pass has
            processed, as in generation with a key-value cache.
        attention_mask: 1 for tokens that count and 0 for padding, `[batch, length]`; None if no
            token is padding.
        routing: Mixing weights that one layer computes for all layers, by the combiner's name.
        recorder: Records the mixing weights, during an evaluation.
    """

    continues_rows: bool = False
    attention_mask: torch.Tensor | None = None
    routing: dict[str, torch.Tensor] = field(default_factory=dict)
    recorder: WeightRecorder | None = None


@dataclass
class CombinerInput:
    """Input of a combiner in one layer.

    Attributes:
        x: Input of the layer, `[batch, length, inputs]`.
        y: Output of the layer without its members, `[batch, length, outputs]`.
        dot: Function that returns the dot product of each member's delta with a direction:
            `[..., outputs]` to `[..., members]`.
        state: State of the forward pass.
    """

    x: torch.Tensor
    y: torch.Tensor
    dot: Callable[[torch.Tensor], torch.Tensor]
    state: ForwardState


@dataclass(frozen=True)
class LayerSpec:
    """Shape and role of the layer that a combiner belongs to.

    Attributes:
        inputs: Input width of the layer.
        outputs: Output width of the layer.
        num_members: Number of members combined.
        name: Key that is unique among the combiners of an adapter and the same in all layers.
        is_router: Whether this layer computes the routing for all layers.
    """

    inputs: int
    outputs: int
    num_members: int
    name: str
    is_router: bool


class Combiner(nn.Module):
    """Base class of the rules that weight the members' deltas in one layer.

    Args:
        config: The job's section.
        layer: The layer it belongs to.
    """

    sequential = False
    """If True, each member receives the layer's output with the deltas of the members before it."""

    def __init__(self, config: CombinerConfig, layer: LayerSpec):
        super().__init__()
        self.layer = layer

    def mixing_weights(self, inputs: CombinerInput) -> torch.Tensor:
        """Return the weight of each member, `[members]` or `[batch, length, members]`."""
        return self.static_weights()

    def static_weights(self) -> torch.Tensor:
        """Return the weights of a combiner that does not depend on the input, `[members]`.

        Raises:
            ValueError: The weights depend on the input.
        """
        raise ValueError("the weights of these members depend on the input")


class RunningMean:
    """Causal mean over the tokens of each row, continued across forward passes."""

    def __init__(self) -> None:
        self._sums: torch.Tensor | None = None
        self._count: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, state: ForwardState) -> torch.Tensor:
        """Return the mean of each token and all before it, in fp32 and without padding.

        Args:
            x: Values, `[batch, length, width]`.
            state: State of the forward pass.
        """
        x = x.float()
        counted = torch.ones(x.shape[:2], device=x.device)
        mask = state.attention_mask
        if mask is not None and mask.shape[1] >= x.shape[1]:
            # With a key-value cache the mask covers the row so far, and x only its new tokens.
            counted = mask[:, -x.shape[1] :].to(x.dtype)
        sums = (x * counted[..., None]).cumsum(dim=1)
        count = counted.cumsum(dim=1)
        if state.continues_rows and self._sums is not None and self._count is not None:
            sums, count = sums + self._sums, count + self._count
        if not torch.is_grad_enabled():
            # Only generation continues a row, and it computes no gradients.
            self._sums, self._count = sums[:, -1:].detach(), count[:, -1:].detach()
        return sums / count.clamp(min=1)[..., None]
