"""Selection of an adapter for each sequence of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from training.evaluation.multi_adapter import BASE_NAME

Names = Sequence[str | None]


class AdapterSwitch:
    """Switch between the adapters of a model.

    Args:
        model: The model; a `PeftModel` if it has adapters.
        names: Names of its adapters.
        mixed: Whether sequences with different adapters can share a forward pass.
    """

    def __init__(self, model: Any, names: Sequence[str] = (), *, mixed: bool = False):
        self._model, self._names, self._mixed = model, tuple(names), mixed

    def groups(self, adapters: Names) -> list[list[int]]:
        """Return the numbers of the sequences that can share a forward pass."""
        if self._mixed or not self._names:
            return [list(range(len(adapters)))]
        return [
            [index for index, other in enumerate(adapters) if other == name]
            for name in dict.fromkeys(adapters)
        ]

    @contextmanager
    def active(self, adapters: Names) -> Iterator[None]:
        """Activate one adapter per sequence.

        Args:
            adapters: Adapter of each sequence of the forward pass; None for none.
        """
        if not self._names:
            yield
            return
        names = [name or BASE_NAME for name in adapters]
        if self._mixed:
            # These hooks are what `forward(adapter_names=…)` of a PeftModel sets up.
            with self._model._enable_peft_forward_hooks(adapter_names=names):
                yield
            return
        (name,) = set(names)
        if name != BASE_NAME:
            self._model.set_adapter(name)
        with self._model.disable_adapter() if name == BASE_NAME else nullcontext():
            yield
