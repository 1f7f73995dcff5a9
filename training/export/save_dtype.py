"""Precision of the saved weights of a model that is trained in full.

The weights in memory are rounded once training has ended, before they are measured and saved: the
files then hold exactly the model whose loss is reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import AutoConfig

from training.config import Job
from training.config.adapter_files import read_adapter_config, recorded_base
from training.config.model import Model
from training.models.load import DTYPES
from training.trainer.distributed import ControlPlane

NAMES = {dtype: name for name, dtype in DTYPES.items()}
"""Names of precisions, as jobs write them."""


def target_dtype(job: Job) -> torch.dtype | None:
    """Return the dtype in which a job saves its weights; None for that of the training."""
    if job.save_dtype is None:
        return None
    return base_dtype(job.model) if job.save_dtype == "auto" else DTYPES[job.save_dtype]


def base_dtype(model: Model) -> torch.dtype | None:
    """Return the dtype that a base's `config.json` declares; None if it declares none.

    Args:
        model: The job's section; an adapter's base is that of its base.
    """
    source, revision = model.source, model.revision
    adapter = read_adapter_config(Path(source))
    if adapter is not None:
        source = model.base_model or recorded_base(adapter)
        revision = model.revision if model.base_model else adapter.get("revision")
    config = AutoConfig.from_pretrained(
        source, revision=revision, trust_remote_code=model.trust_remote_code
    )
    dtype = config.get_text_config().dtype or config.dtype
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def round_weights(model: Any, dtype: torch.dtype, control: ControlPlane) -> str | None:
    """Round the weights of a trained model to a dtype, in place and in their own dtype.

    Every process must call this function.

    Args:
        model: The trained model, sharded or not.
        dtype: Precision to which they are rounded.
        control: Exchanges what the processes found.

    Returns:
        Why the weights were not rounded: the largest one is not a number of this dtype. None if
        they were.
    """
    largest = max(
        (float(part.detach().abs().max()) for _, part in _parts(model) if part.numel()),
        default=0.0,
    )
    largest = max(control.all_gather(largest))
    limit = torch.finfo(dtype).max
    if largest > limit:
        return f"a weight of {largest:.4g} exceeds the largest number of {NAMES[dtype]}, {limit:g}"
    with torch.no_grad():
        for parameter, part in _parts(model):
            if hasattr(parameter, "ds_id"):
                _round_zero3(parameter, dtype)
            else:
                part.copy_(part.to(dtype))
    return None


def rounded_state(
    model: Any, state: dict[str, torch.Tensor], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Return the tensors to save, with the weights in a dtype.

    Args:
        model: The model whose weights were rounded.
        state: Its gathered state; empty except in the main process.
        dtype: Dtype of the weights. Buffers keep theirs.
    """
    others = {name for name, _ in model.named_buffers()} | kept_in_fp32(model, state)
    return {
        name: tensor if name in others or not tensor.is_floating_point() else tensor.to(dtype)
        for name, tensor in state.items()
    }


def record_dtype(folder: Path, dtype: torch.dtype) -> None:
    """Set the dtype in a saved `config.json`, in which Transformers loads the weights.

    Args:
        folder: Folder of the model.
        dtype: Dtype of the saved weights.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    for section in (config, config.get("text_config") or {}):
        for key in ("dtype", "torch_dtype"):
            if key in section or (section is config and key == "dtype"):
                section[key] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _parts(model: Any) -> Iterator[tuple[Any, torch.Tensor]]:
    """Yield each parameter that is rounded, with the part of it that this process holds."""
    exempt = kept_in_fp32(model, (name for name, _ in model.named_parameters()))
    for name, parameter in model.named_parameters():
        if name in exempt or not parameter.is_floating_point():
            continue
        shard = getattr(parameter, "ds_tensor", None)
        if isinstance(parameter, DTensor):
            shard = parameter.to_local()
        yield parameter, (parameter if shard is None else shard).detach()


def _round_zero3(parameter: Any, dtype: torch.dtype) -> None:
    """Round a parameter that ZeRO 3 shards, and may also keep gathered."""
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        parameter.data.copy_(parameter.data.to(dtype))


def kept_in_fp32(model: Any, names: Iterable[str]) -> set[str]:
    """Return the tensors that the architecture keeps in fp32 whatever the dtype of the model.

    Args:
        model: The model, with or without weights.
        names: Names of its tensors.
    """
    modules = {
        *(getattr(model, "_keep_in_fp32_modules", None) or ()),
        *(getattr(model, "_keep_in_fp32_modules_strict", None) or ()),
    }
    if not modules:
        return set()
    pattern = re.compile(rf"(^|\.)({'|'.join(modules)})($|\.)")
    return {name for name in names if pattern.search(name)}
