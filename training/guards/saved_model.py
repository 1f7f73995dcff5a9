"""Verification of a saved model: it is read back and compared with the model in memory.

It catches, for instance, an adapter that ZeRO 3 saved empty without any error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from torch.distributed.tensor import DTensor

from training.errors import GuardError
from training.models.double_precision import in_double
from training.trainer.checkpoints import name_on_disk
from training.trainer.distributed import ControlPlane

Norms = dict[str, tuple[tuple[int, ...], float]]


def norms_in_memory(model: torch.nn.Module, control: ControlPlane, *, adapter: bool) -> Norms:
    """Return shape and Euclidean norm of every tensor that will be saved.

    Each process measures its own shards, and the squares are summed. The result therefore does not
    depend on the gathering that saving relies on. Every process must call this function.

    Args:
        model: The trained model, sharded or not.
        control: Sums the parts of all processes.
        adapter: Whether only trainable tensors are saved, under PEFT's names.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    squares: dict[str, float] = {}
    sharded: set[str] = set()
    for name, parameter in model.named_parameters():
        if adapter and not parameter.requires_grad:
            continue
        part = getattr(parameter, "ds_tensor", None)
        part = _local_shard(parameter) if part is None else part
        if part is not None:
            sharded.add(name)
        shapes[name] = tuple(getattr(parameter, "ds_shape", parameter.shape))
        squares[name] = _norm(parameter if part is None else part) ** 2
    everyone = control.all_gather(squares)
    norms: Norms = {}
    for name, shape in shapes.items():
        parts = [local[name] for local in everyone] if name in sharded else [squares[name]]
        norms[name_on_disk(name) if adapter else name] = (shape, math.sqrt(sum(parts)))
    return norms


def check_readback(
    folder: Path, expected: Norms, *, relative: float, group: Callable[[str], str] = str
) -> None:
    """Compare the safetensors files in `folder` with the tensors that were in memory.

    Args:
        folder: Folder of the saved model or adapter.
        expected: Shapes and norms in memory, by their names on disk.
        relative: Relative tolerance of the norms, for weights that were rounded on saving.
        group: Returns the name of the group of a tensor, if the files split or join tensors.

    Raises:
        GuardError: Tensors are missing, empty or different.
    """
    saved: Norms = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            saved |= {name: _shape_and_norm(file.get_tensor(name)) for name in names}
    if not saved:
        raise GuardError(f"{folder} holds no tensor after saving: the model was not saved")
    expected, saved = _regrouped(expected, saved, group)
    faults = []
    for name, (shape, norm) in expected.items():
        if name not in saved:
            faults.append(f"{name} is missing")
        elif saved[name][0] != shape:
            faults.append(f"{name} has shape {list(saved[name][0])}, not {list(shape)}")
        elif abs(saved[name][1] - norm) > relative * max(norm, 1e-12):
            faults.append(f"{name} has norm {saved[name][1]:.6g}, not {norm:.6g}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise GuardError(
            f"the model saved in {folder} is not the one that was trained: "
            f"{'; '.join(faults[:3])}{more}. The last checkpoint is intact"
        )


def _regrouped(expected: Norms, saved: Norms, group: Callable[[str], str]) -> tuple[Norms, Norms]:
    """Return both by group; a group of several tensors has their elements and their joint norm.

    Splitting, joining and transposing tensors changes neither.
    """
    names: dict[str, tuple[list[str], list[str]]] = {}
    for place, norms in enumerate((expected, saved)):
        for name in norms:
            names.setdefault(group(name), ([], []))[place].append(name)
    joined: tuple[Norms, Norms] = ({}, {})
    for key, (in_memory, on_disk) in names.items():
        same = {*in_memory, *on_disk} == {key}
        for result, norms, members in zip(
            joined, (expected, saved), (in_memory, on_disk), strict=True
        ):
            if members:
                result[key] = norms[key] if same else _joint([norms[name] for name in members])
    return joined


def _joint(norms: list[tuple[tuple[int, ...], float]]) -> tuple[tuple[int, ...], float]:
    """Return the number of elements of several tensors, as a shape, and their joint norm."""
    count = sum(math.prod(shape) for shape, _ in norms)
    return (count,), math.sqrt(sum(norm**2 for _, norm in norms))


def _shape_and_norm(tensor: torch.Tensor) -> tuple[tuple[int, ...], float]:
    return tuple(tensor.shape), _norm(tensor)


def _local_shard(parameter: torch.Tensor) -> torch.Tensor | None:
    """Return this process's part of a parameter that FSDP2 shards, else None."""
    if not isinstance(parameter, DTensor) or not all(p.is_shard() for p in parameter.placements):
        return None
    return parameter.to_local()


def _norm(tensor: torch.Tensor) -> float:
    values = in_double(tensor.detach())
    return float(values.norm() if tensor.is_floating_point() else values.abs().sum())
