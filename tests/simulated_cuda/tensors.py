"""Tensors on the simulated device: fake ones that also have their values.

A tensor on the CPU is an ordinary one. `CudaMode` gives an operation that concerns the device to
FakeTensorMode, which checks the devices and makes the result, and computes its values on the CPU.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from tests.run_commands import ROOT
from tests.simulated_cuda.device import DEVICE

aten = torch.ops.aten
_CPU = torch.device("cpu")
_PACKAGES = ("transformers", "trl", "peft", "accelerate", "bitsandbytes")
_STEP = ("training_step", "finish_step", "on_optimizer_step")
"""Functions of the trainer that every step calls: forward and backward, hooks, metrics."""
_OWN = (f"{ROOT}/training/", f"{ROOT}/tests/simulated_cuda/walk.py")
_SET_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]  # a descriptor


def _mm(a: Any, b: Any, dtype: torch.dtype) -> Any:
    return torch.mm(a.to(dtype), b.to(dtype))


def _addmm(c: Any, a: Any, b: Any, dtype: torch.dtype, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return torch.addmm(c.to(dtype), a.to(dtype), b.to(dtype), beta=beta, alpha=alpha)


def _softmax(x: Any, dim: int, to_float: bool) -> Any:
    return torch.softmax(x, dim, dtype=torch.float32 if to_float else x.dtype)


def _log_softmax(x: Any, dim: int, to_float: bool) -> Any:
    return torch.log_softmax(x, dim, dtype=torch.float32 if to_float else x.dtype)


def _softmax_backward(gradient: Any, output: Any, dim: int, dtype: torch.dtype) -> Any:
    return aten._softmax_backward_data(gradient, output, dim, gradient.dtype).to(dtype)


def _log_softmax_backward(gradient: Any, output: Any, dim: int, dtype: torch.dtype) -> Any:
    return aten._log_softmax_backward_data(gradient, output, dim, gradient.dtype).to(dtype)


CUDA_ONLY = {
    aten._softmax.default: _softmax,
    aten._log_softmax.default: _log_softmax,
    aten._softmax_backward_data.default: _softmax_backward,
    aten._log_softmax_backward_data.default: _log_softmax_backward,
    aten.mm.dtype: _mm,
    aten.mm.dtype_out: lambda *inputs, out: out.copy_(_mm(*inputs)),
    aten.addmm.dtype: _addmm,
    aten.addmm.dtype_out: lambda *inputs, out, **named: out.copy_(_addmm(*inputs, **named)),
}
"""Values of operations that take 16-bit inputs and return fp32 on CUDA alone."""

_OTHER_BUFFER = {aten.log_sigmoid_forward.default}
"""Operations with a buffer for the backward pass that CUDA leaves empty."""


class Sync(NamedTuple):
    """Point in the code where the host waits for the device.

    Attributes:
        place: The project's file and function, `training/….py:function`.
        caller: Package and function that wait, if it is not the project's own code.
        reason: `read` (values are copied to the host), `shape` (the size of a result depends on
            values) or `write` (a copy to the device from memory that is not pinned).
    """

    place: str
    caller: str
    reason: str


class CudaMode(FakeTensorMode):
    """FakeTensorMode whose tensors have values.

    Attributes:
        syncs: How often the host waited for the device, by place.
        four_bit: Operations of bitsandbytes on the device.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.syncs: Counter[Sync] = Counter()
        self.four_bit = 0
        self._nested = False
        self._moved: dict[int, tuple[Any, torch.Tensor]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> CudaMode:
        """Return itself: a copy of a tensor is on the same device, with the tensors moved to it."""
        return self

    @property
    def avoid_device_init(self) -> bool:
        """True: there is no CUDA runtime to initialize."""
        return True

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation; FakeTensorMode calls this.

        Args:
            func: Operator.
            types: Tensor classes among the arguments.
            args: Arguments.
            kwargs: Named arguments.
        """
        kwargs = kwargs or {}
        if self._nested or func is torch.ops.prim.device.default:
            return super().dispatch(func, types, args, kwargs)
        flat, spec = tree_flatten((args, kwargs))
        fakes = [part for part in flat if isinstance(part, FakeTensor)]
        target = any(isinstance(part, torch.device) and part.type == "cuda" for part in flat)
        if not fakes and not target:
            return func(*args, **kwargs)
        self.four_bit += func.namespace == "bitsandbytes"
        real_args, real_kwargs = tree_unflatten([_on_host(part) for part in flat], spec)
        real = CUDA_ONLY.get(func, func)
        if self._note_copies(func, args, kwargs, fakes):
            return real(*real_args, **real_kwargs)
        if func is aten._to_copy.default and not fakes:
            return self.wrap(real(*real_args, **real_kwargs), DEVICE)
        try:
            self._nested = True
            result = super().dispatch(func, types, args, kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            self._nested = False
            on_device = any(fake.fake_device.type == "cuda" for fake in fakes)
            self._note(func, "shape") if on_device else None
            device = DEVICE if on_device else _CPU
            values = real(*real_args, **real_kwargs)
            return tree_map_only(torch.Tensor, lambda value: self.wrap(value, device), values)
        finally:
            self._nested = False
        values = real(*real_args, **real_kwargs)
        for fake, value in zip(tree_flatten(result)[0], tree_flatten(values)[0], strict=True):
            if isinstance(fake, FakeTensor):
                alike = (fake.shape, fake.dtype) == (value.shape, value.dtype)
                assert alike or func in _OTHER_BUFFER, (func, fake, value.shape, value.dtype)
                fake.host = value  # type: ignore[attr-defined]  # the values, see the module
        return result

    def _note_copies(self, func: Any, args: Any, kwargs: Any, fakes: list[FakeTensor]) -> bool:
        """Note a copy between host and device; return True if the result is on the host."""
        on_device = any(fake.fake_device.type == "cuda" for fake in fakes)
        if func is aten._local_scalar_dense.default:
            if on_device:
                self._note(func, "read")
            return True
        if func is aten._to_copy.default:
            device = kwargs.get("device")
            if on_device and device is not None and device.type == "cpu":
                self._note(func, "read")
                return True
            if device is not None and device.type == "cuda" and not on_device:
                self._note_write(func, args[0], kwargs.get("non_blocking", False))
        elif func is aten.copy_.default:
            to_host = args[0].device.type == "cpu"
            if to_host and on_device:
                self._note(func, "read")
            elif not to_host and args[1].device.type == "cpu":
                self._note_write(func, args[1], len(args) > 2 and args[2])
            return to_host and not isinstance(args[0], FakeTensor)
        return False

    def _note_write(self, func: Any, source: torch.Tensor, non_blocking: bool) -> None:
        if not (non_blocking and getattr(source, "pinned", False)):
            self._note(func, "write")

    def _note(self, func: Any, reason: str) -> None:
        """Count a wait within a step, at the innermost function of the project and of a package."""
        if threading.current_thread() is not threading.main_thread():
            self.syncs[Sync("backward", str(func), reason)] += 1
            return
        place = caller = ""
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            function = frame.f_code.co_name
            file, _, inside = frame.f_code.co_filename.partition("site-packages/")
            package = inside.split("/")[0]
            if package in _PACKAGES and not (caller or place):
                caller = f"{package}:{function}"
            if not inside and file.startswith(_OWN):
                file = file.removeprefix(f"{ROOT}/")
                place = place or f"{file}:{function}"
                if file == "training/trainer/exact_trainer.py" and function in _STEP:
                    self.syncs[Sync(place, caller, reason)] += 1
                    return
            frame = frame.f_back

    def wrap(self, value: torch.Tensor, device: torch.device) -> FakeTensor:
        """Return a fake tensor on `device` with these values."""
        meta = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        fake = FakeTensor(self, meta, device)
        fake.host = value.detach()  # type: ignore[attr-defined]  # the values, see the module
        return fake

    def adopt(self, model: torch.nn.Module) -> None:
        """Replace the parameters and buffers of a module by fake ones on the CPU.

        Tied parameters stay tied. `_apply` calls it, because the data of a real parameter cannot
        be set to a fake tensor.
        """
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and not isinstance(parameter, FakeTensor):
                    module._parameters[name] = self._adopted(parameter)
            for name, buffer in module._buffers.items():
                if buffer is not None and not isinstance(buffer, FakeTensor):
                    module._buffers[name] = self._adopted(buffer)

    def _adopted(self, tensor: Any) -> Any:
        if id(tensor) not in self._moved:
            fake: Any = self.wrap(tensor, _CPU)
            if isinstance(tensor, torch.nn.Parameter):
                values, attributes = fake.host, vars(tensor)
                fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
                fake.__dict__ |= attributes
                fake.host = values
            # The original is kept, so that no other tensor gets its id.
            self._moved[id(tensor)] = fake, tensor
        return self._moved[id(tensor)][0]


def _on_host(part: Any) -> Any:
    """Return the values of a fake tensor, the CPU for a device, and else the argument."""
    if isinstance(part, FakeTensor):
        return part.host  # type: ignore[attr-defined]  # the values, see the module
    return _CPU if isinstance(part, torch.device) else part


class TensorFunctions(TorchFunctionMode):
    """Functions of tensors that do not reach FakeTensorMode as an operator."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch's Python interface."""
        if func == torch.Tensor.pin_memory:
            copy = args[0].clone()
            copy.pinned = True
            return copy
        if func == torch.Tensor.is_pinned:
            return getattr(args[0], "pinned", False)
        result = func(*args, **(kwargs or {}))
        if func == _SET_DATA and isinstance(args[0], FakeTensor):
            # C++ replaces the data; device and values are attributes of the Python object.
            target, source = args
            target.fake_device, target.host = source.fake_device, source.host
        return result


def apply_in_place(mode: CudaMode) -> Any:
    """Return `torch.nn.Module._apply` as it works on real devices: it sets a parameter's data.

    Torch exchanges fake parameters for new ones instead, which would untie tied weights.
    """

    def _apply(self: torch.nn.Module, fn: Any, recurse: bool = True) -> torch.nn.Module:
        mode.adopt(self)
        if recurse:
            for child in self.children():
                child._apply(fn)
        for parameter in self._parameters.values():
            if parameter is not None:
                with torch.no_grad():
                    parameter.data = fn(parameter)
                if parameter.grad is not None:
                    parameter.grad.data = fn(parameter.grad)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    return _apply
