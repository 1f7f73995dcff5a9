"""Counts what is alive while operations run on tensors that have a shape and no numbers.

A dispatch mode sees every tensor that an operation returns and counts its bytes for as long as
anything holds them: Python, or autograd.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch._prims_common import is_non_overlapping_and_dense_or_false
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_ALONE = 4
"""References to a tensor that only autograd holds, asked from within a dispatch mode."""
_IN_PLACE = (torch.ops.aten.add.Tensor, torch.ops.aten.new_empty_strided.default)
"""How autograd adds gradients up, and hands those of weights over, where a mode looks on: beside
the first of them, and by a copy. Where none does, both happen in place, and so they are counted."""


class Alive(TorchDispatchMode):
    """Counts the bytes of every storage that an operation returned and somebody holds.

    Attributes:
        live: Now.
        peak: At most, since `restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}
        self._refs: dict[int, Any] = {}

    def __enter__(self) -> Alive:
        """Hear of storages that are emptied and filled again, too, as FSDP's are."""
        resize = self._resize = torch.UntypedStorage.resize_
        mode = self

        def heard(storage: Any, size: int) -> Any:
            result = resize(storage, size)
            mode._resized(storage)
            return result

        torch.UntypedStorage.resize_ = heard  # type: ignore[method-assign]  # until __exit__
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Hear no more."""
        super().__exit__(*error)
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]  # as it was

    def restart(self) -> None:
        """Measure from what is alive now."""
        self.peak = self.live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note what it made."""
        if func in _IN_PLACE and not torch.is_grad_enabled() and _is_alone(args[0]):
            self._let_go(args[0].untyped_storage())
        result = func(*args, **(kwargs or {}))
        for one in tree_iter(result):
            # A shard knows the size of the whole; its own bytes are a tensor within.
            one = one._local_tensor if isinstance(one, DTensor) else one
            if hasattr(one, "untyped_storage"):
                self._note(one.untyped_storage())
        self.peak = max(self.peak, self.live)
        return result

    def _let_go(self, storage: Any) -> None:
        """Count a storage no longer, though it is still there."""
        if storage._cdata in self._sizes:
            self.live -= self._sizes[storage._cdata]
            self._sizes[storage._cdata] = 0

    def _resized(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._sizes:
            self.live += storage.nbytes() - self._sizes[key]
            self._sizes[key] = storage.nbytes()
            self.peak = max(self.peak, self.live)

    def _note(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._sizes:
            return

        def gone(_: Any) -> None:
            del self._refs[key]
            self.live -= self._sizes.pop(key)

        self._refs[key] = weakref.ref(storage, gone)
        self._sizes[key] = storage.nbytes()
        self.live += self._sizes[key]


def _is_alone(x: Any) -> bool:
    return x._use_count() <= _ALONE and is_non_overlapping_and_dense_or_false(x)
