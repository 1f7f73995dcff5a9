"""Guard against shapes that change from batch to batch although they should be static.

Each new shape of the model's or the head's input is compiled again, for minutes on Trainium, and
the run would seem to stand still.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from training.errors import GuardError
from training.trainer.callbacks import BaseCallback

MAX_SHAPES = 2
"""Shapes of [batch, length] that static shapes have: one for short rows and one for long ones."""


class Recompilations(BaseCallback):
    """Guard that stops at the third shape of the input of the model's body or of its head.

    Training and evaluation count together. Generation, which `train.static_shapes` does not cover,
    is left out.

    Attributes:
        seen: Shapes so far, by part.
    """

    def __init__(self) -> None:
        self.seen: dict[str, set[tuple[int, ...]]] = {"model": set(), "head": set()}

    def on_start(self, model: Any, step: int) -> None:
        """Watch the inputs of the body and of the head."""
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner.base_model.register_forward_pre_hook(self._on_body, with_kwargs=True)
        head = inner.get_output_embeddings() or getattr(inner, "score", None)
        if head is not None:
            head.register_forward_pre_hook(self._on_head)

    def _on_body(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs.get("use_cache"):
            return
        given = (*args, kwargs.get("input_ids"), kwargs.get("inputs_embeds"))
        rows = next(value for value in given if value is not None)
        self._record("model", tuple(rows.shape[:2]))

    def _on_head(self, module: nn.Module, args: Any) -> None:
        self._record("head", tuple(args[0].shape[:-1]))

    def _record(self, part: str, shape: tuple[int, ...]) -> None:
        """Record a shape.

        Raises:
            GuardError: It is one too many.
        """
        shapes = self.seen[part]
        shapes.add(shape)
        if len(shapes) > MAX_SHAPES:
            listed = ", ".join(str(list(shape)) for shape in sorted(shapes))
            raise GuardError(
                f"the input of the {part} has had {len(shapes)} shapes ({listed}), and "
                f"train.static_shapes allows {MAX_SHAPES}: each one is compiled again, which takes "
                f"minutes on Trainium. This is a bug in Temper; report it with the job. Until "
                f"then set data.packing: true if the method can pack, or, on a GPU, "
                f"train.static_shapes: false"
            )
