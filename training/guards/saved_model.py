"""A saved model counts once it was read back and found the same.

The classic it catches: an adapter saved empty under ZeRO 3, with no error anywhere.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors import safe_open

from training.errors import GuardError
from training.trainer.checkpoints import name_on_disk
from training.trainer.distributed import ControlPlane

Norms = dict[str, tuple[tuple[int, ...], float]]


def norms_in_memory(model: torch.nn.Module, control: ControlPlane, *, adapter: bool) -> Norms:
    """Return shape and Euclidean norm of every tensor that will be saved.

    Measured where the tensors are trained, each process adding its own part, and so without any of
    the gathering that saving relies on. Every process must call this.

    Args:
        model: As it was trained, sharded or not.
        control: Adds the parts of all processes.
        adapter: Only what learns is saved, under PEFT's names.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    squares: dict[str, float] = {}
    sharded: set[str] = set()
    for name, parameter in model.named_parameters():
        if adapter and not parameter.requires_grad:
            continue
        part = getattr(parameter, "ds_tensor", None)
        if part is not None:
            sharded.add(name)
        shapes[name] = tuple(getattr(parameter, "ds_shape", parameter.shape))
        squares[name] = _norm(parameter if part is None else part) ** 2
    everyone = control.all_gather(squares)
    norms: Norms = {}
    for name, shape in shapes.items():
        parts = [mine[name] for mine in everyone] if name in sharded else [squares[name]]
        norms[name_on_disk(name) if adapter else name] = (shape, math.sqrt(sum(parts)))
    return norms


def check_readback(folder: Path, expected: Norms, *, relative: float) -> None:
    """Raise unless the safetensors files in `folder` hold exactly what was in memory.

    Args:
        folder: A saved model or adapter.
        expected: What was in memory, by the names on disk.
        relative: How far norms may differ, for weights that were rounded on saving.

    Raises:
        GuardError: Names the first tensors that are missing, empty or different.
    """
    found: Norms = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: _of(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    if not found:
        raise GuardError(f"{folder} holds no tensor after saving: the model was not saved")
    faults = []
    for name, (shape, norm) in expected.items():
        if name not in found:
            faults.append(f"{name} is missing")
        elif found[name][0] != shape:
            faults.append(f"{name} has shape {list(found[name][0])}, not {list(shape)}")
        elif abs(found[name][1] - norm) > relative * max(norm, 1e-12):
            faults.append(f"{name} has norm {found[name][1]:.6g}, not {norm:.6g}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise GuardError(
            f"the model saved in {folder} is not the one that was trained: "
            f"{'; '.join(faults[:3])}{more}. The last checkpoint is intact"
        )


def _of(tensor: torch.Tensor) -> tuple[tuple[int, ...], float]:
    return tuple(tensor.shape), _norm(tensor)


def _norm(tensor: torch.Tensor) -> float:
    if not tensor.is_floating_point():
        return float(tensor.double().abs().sum())
    return float(tensor.detach().double().norm())
