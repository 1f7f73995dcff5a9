"""Copy of a model's folder with its weights in another dtype, one tensor in memory at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from training.errors import GuardError, JobError, ModelError, Problem
from training.export.save_dtype import kept_in_fp32, record_dtype
from training.models.load import DTYPES
from training.models.merge import is_adapter
from training.models.safetensors_io import TensorInfo, WeightFiles, write_tensors

_INDEX = "model.safetensors.index.json"


def check_dtype(name: str) -> torch.dtype:
    """Return a dtype by the name that jobs give it.

    Raises:
        JobError: There is none of this name.
    """
    if name not in DTYPES:
        fix = f"Choose from {', '.join(DTYPES)}"
        raise JobError("export", [Problem("DTYPE", "is no precision of weights", name, fix)])
    return DTYPES[name]


def cast_weights(folder: Path, target: Path, dtype: torch.dtype) -> None:
    """Write a folder's model with its weights in another dtype, and read every tensor back.

    Args:
        folder: Folder of a complete model, or of an adapter.
        target: Folder to create.
        dtype: Dtype of the weights.

    Raises:
        ModelError: A weight is larger than the largest number of the dtype.
        GuardError: A tensor does not read back as it was written.
    """
    source = WeightFiles(folder)
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    complete = not is_adapter(str(folder))
    exempt: set[str] = set()
    if complete:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        exempt = kept_in_fp32(model, source.tensors)

    def cast(name: str) -> torch.Tensor:
        tensor = source.read(name)
        if name in exempt or not tensor.is_floating_point():
            return tensor
        result = tensor.to(dtype)
        if not bool(result.isfinite().all()) and bool(tensor.isfinite().all()):
            raise ModelError(
                f"{name} has a weight of {float(tensor.abs().max()):.4g}, which exceeds the "
                f"largest number of {dtype}, {torch.finfo(dtype).max:g}. Use DTYPE=bf16"
            )
        return result

    for path, names in source.files.items():
        kinds = {
            name: kind
            if name in exempt or not kind.dtype.is_floating_point
            else TensorInfo(dtype, kind.shape)
            for name, kind in ((name, source.tensors[name]) for name in names)
        }
        write_tensors(target / path.name, kinds, cast)
    if complete:
        record_dtype(target, dtype)
    written = WeightFiles(target)
    if (target / _INDEX).exists():
        index = json.loads((target / _INDEX).read_text("utf-8"))
        index.setdefault("metadata", {})["total_size"] = written.num_bytes
        (target / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    for name in source.tensors:
        if not torch.equal(written.read(name), cast(name)):
            raise GuardError(f"{name} does not read back as it was written; the disk may fail")
