"""Attention masks of sequences at different lengths, in the form that a model takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_KINDS = {"full_attention", "sliding_attention"}


class MaskBuilder:
    """Builder of the masks of a model.

    Args:
        model: Causal language model.
    """

    def __init__(self, model: Any):
        config = model.config.get_text_config()
        self._dtype = model.dtype
        self._additive = config._attn_implementation == "eager"
        self._window: int | None = getattr(config, "sliding_window", None)
        if not getattr(config, "use_sliding_window", True):
            self._window = None
        self._kinds = set(getattr(config, "layer_types", None) or ())

    def __call__(self, positions: Tensor, width: int) -> Tensor | dict[str, Tensor]:
        """Return the mask of new tokens, [sequences, 1, tokens, width], or one per kind of layer.

        Args:
            positions: Position of each new token, [sequences, tokens].
            width: Number of keys.

        Raises:
            NotImplementedError: The model has layers of a kind whose mask is not known.
        """
        if unknown := self._kinds - _KINDS:
            raise NotImplementedError(f"the model has layers of {', '.join(sorted(unknown))}")
        keys = torch.arange(width, device=positions.device)
        distance = positions[:, None, :, None] - keys
        full = distance >= 0
        if self._window is None:
            return self._form(full)
        near = full & (distance < self._window)
        if not self._kinds or self._kinds == {"sliding_attention"}:
            return self._form(near)
        return {
            "full_attention": self._form(full),
            "sliding_attention": self._form(near),
        }

    def _form(self, allowed: Tensor) -> Tensor:
        if not self._additive:
            return allowed
        least = torch.finfo(self._dtype).min
        return torch.zeros_like(allowed, dtype=self._dtype).masked_fill_(~allowed, least)
