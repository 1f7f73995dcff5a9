"""Device 0 of type `cuda` in a process whose torch has no CUDA.

FakeTensorMode can create tensors on a device that does not exist. Autograd asks more of a device: a
guard, which torch has without CUDA too (`c10::impl::ensureCUDADeviceGuardSet`) but registers in
place of a guard without devices only; and an accelerator, which is CUDA if its hooks answer "built"
(`at::accelerator::getAccelerator`). Both are C++ objects of this process, set here by address.
https://github.com/pytorch/pytorch/blob/v2.13.0/c10/core/impl/DeviceGuardImplInterface.h
"""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

DEVICE = torch.device("cuda", 0)
_CUDA, _LAZY, _TYPES = 1, 17, 21
"""`c10::DeviceType`: the lazy device has a guard, and no devices."""
_BUILT, _AVAILABLE, _HAS_CONTEXT = 2, 3, 4
"""Slots of `at::AcceleratorHooksInterface` after its two destructors."""
_SLOTS = 80
_PROPERTIES = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3", total_memory=80 * 2**30, multi_processor_count=132,
    major=9, minor=0, warp_size=32,
)  # fmt: skip
_keep: list[Any] = []


def install() -> None:
    """Give this process a CUDA device. It cannot be removed again.

    Raises:
        RuntimeError: This version of torch has other objects at these places.
    """
    if torch.version.cuda is not None:
        raise RuntimeError("this torch has CUDA; the simulated device is for builds without it")
    libraries = Path(torch.__file__).parent / "lib"
    guard = _register_guard(ctypes.CDLL(str(libraries / "libc10.so")))
    _set_hooks(ctypes.CDLL(str(libraries / "libtorch_cpu.so")), guard)
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or accelerator.type != "cuda":
        raise RuntimeError(f"torch {torch.__version__} did not accept the simulated device")
    _patch_functions()


def _register_guard(library: ctypes.CDLL) -> int:
    """Let torch register its CUDA guard that does nothing; return the guard's address."""
    kind = ctypes.c_void_p * _TYPES
    registry = kind.in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    lazy = registry[_LAZY]
    registry[_CUDA] = lazy
    torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]  # private
    guard = registry[_CUDA]
    if not guard or guard == lazy:
        raise RuntimeError(f"torch {torch.__version__} has no CUDA guard for builds without CUDA")
    return int(guard)


def _set_hooks(library: ctypes.CDLL, guard: int) -> None:
    """Let the CUDA hooks say that CUDA is built, available and initialized."""
    get = library._ZN2at6detail12getCUDAHooksEv
    get.restype = ctypes.c_void_p
    pointer = ctypes.c_void_p.from_address(get())
    assert pointer.value is not None
    # A copy of the table of virtual functions, with the two words before it.
    words = ctypes.c_void_p * (_SLOTS + 2)
    table = words(*words.from_address(pointer.value - 16))
    # `type()`, the guard's first function, returns 1 for CUDA, which is also `true`.
    functions = ctypes.c_void_p.from_address(guard).value
    assert functions is not None
    true = ctypes.c_void_p.from_address(functions).value
    for slot in (_BUILT, _AVAILABLE, _HAS_CONTEXT):
        table[slot + 2] = true
    _keep.append(table)
    pointer.value = ctypes.addressof(table) + 16


class _DeviceContext(contextlib.nullcontext[None]):
    """Stand-in of `torch.cuda.device`."""

    def __init__(self, *_: Any):
        super().__init__()


def _patch_functions() -> None:
    """Replace the functions of `torch.cuda` that call the CUDA runtime."""
    values = {
        "is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0,
        "is_bf16_supported": True, "get_device_name": _PROPERTIES.name,
        "get_device_capability": (9, 0), "get_device_properties": _PROPERTIES,
        "max_memory_allocated": 0, "max_memory_reserved": 0, "memory_allocated": 0,
        "memory_reserved": 0, "mem_get_info": (_PROPERTIES.total_memory,) * 2,
        "is_current_stream_capturing": False, "_is_in_bad_fork": False, "_exchange_device": 0,
        "_maybe_exchange_device": 0, "manual_seed_all": None, "manual_seed": None,
        "set_rng_state": None, "set_rng_state_all": None, "reset_peak_memory_stats": None,
        "synchronize": None, "empty_cache": None, "set_device": None, "init": None,
        "_lazy_init": None,
    }  # fmt: skip
    for name, value in values.items():
        setattr(torch.cuda, name, lambda *_, _value=value, **__: _value)
    # The values of the device's tensors are drawn from the CPU's generator.
    torch.cuda.get_rng_state = lambda *_: torch.get_rng_state()
    torch.cuda.get_rng_state_all = lambda: [torch.get_rng_state()]
    for name in ("get_rng_state", "set_rng_state"):
        setattr(torch.cuda.random, name, getattr(torch.cuda, name))
    torch.cuda.device = torch.cuda.device_of = _DeviceContext  # type: ignore[assignment,misc]  # a stand-in
    torch.amp.autocast_mode.is_autocast_available = lambda _: True
