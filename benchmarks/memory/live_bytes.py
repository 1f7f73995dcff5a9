"""Live bytes of tensors while operations run under `FakeTensorMode`.

A dispatch mode sees every tensor that an operation returns. It counts the storage until the last
reference is gone, whether Python or autograd holds it.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch._prims_common import is_non_overlapping_and_dense_or_false
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_AUTOGRAD_ONLY = 4
"""The use count, inside a dispatch mode, of a tensor that only autograd holds."""
_REUSING = (torch.ops.aten.add.Tensor, torch.ops.aten.new_empty_strided.default)
"""Operations that autograd runs out of place only because a dispatch mode is active: accumulating
gradients, and storing the gradient of a parameter. Without a mode both reuse the first tensor, so
they are counted as if they did."""


class LiveBytes(TorchDispatchMode):
    """Dispatch mode that counts the bytes of storages that operations returned.

    Attributes:
        live: The bytes that are referenced now.
        peak: The largest value of `live` since `restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}
        self._refs: dict[int, Any] = {}

    def __enter__(self) -> LiveBytes:
        """Start counting, resized storages included: FSDP empties and refills its own."""
        resize = self._resize = torch.UntypedStorage.resize_
        mode = self

        def resize_and_count(storage: Any, size: int) -> Any:
            result = resize(storage, size)
            mode._resized(storage)
            return result

        torch.UntypedStorage.resize_ = resize_and_count  # type: ignore[method-assign]  # until __exit__
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Stop counting."""
        super().__exit__(*error)
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]  # as it was

    def restart(self) -> None:
        """Reset the peak to the bytes that are live now."""
        self.peak = self.live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count the storages of its results."""
        if func in _REUSING and not torch.is_grad_enabled() and _is_reusable(args[0]):
            self._discount(args[0].untyped_storage())
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            # A DTensor has the size of the full tensor; only its local shard takes memory.
            tensor = tensor._local_tensor if isinstance(tensor, DTensor) else tensor
            if hasattr(tensor, "untyped_storage"):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return result

    def _discount(self, storage: Any) -> None:
        """Stop counting a storage that is still referenced."""
        if storage._cdata in self._sizes:
            self.live -= self._sizes[storage._cdata]
            self._sizes[storage._cdata] = 0

    def _resized(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._sizes:
            self.live += storage.nbytes() - self._sizes[key]
            self._sizes[key] = storage.nbytes()
            self.peak = max(self.peak, self.live)

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._sizes:
            return

        def released(_: Any) -> None:
            del self._refs[key]
            self.live -= self._sizes.pop(key)

        self._refs[key] = weakref.ref(storage, released)
        self._sizes[key] = storage.nbytes()
        self.live += self._sizes[key]


def _is_reusable(x: Any) -> bool:
    return x._use_count() <= _AUTOGRAD_ONLY and is_non_overlapping_and_dense_or_false(x)
