"""Reading, writing and digests of safetensors files, one tensor at a time.

A safetensors file is the length of a JSON header in 8 bytes (little-endian), the header (name,
dtype, shape and offsets of every tensor), and the bytes of the tensors.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from transformers import AutoConfig

from training.errors import ModelError
from training.models.locate import explain_missing
from training.models.weights_digest import weights_digest

_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


@dataclass(frozen=True)
class TensorInfo:
    """Dtype and shape of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size on disk."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class WeightFiles:
    """Safetensors files of a folder as one mapping.

    Args:
        folder: Folder with one or more safetensors files.

    Raises:
        ModelError: The folder has no safetensors file.

    Attributes:
        tensors: Dtype and shape of each tensor, by name.
        files: Names of the tensors in each file, in the file's order.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.tensors: dict[str, TensorInfo] = {}
        self.files: dict[Path, list[str]] = {}
        self._file_of: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            header.pop("__metadata__", None)
            for name, about in header.items():
                self.tensors[name] = TensorInfo(_DTYPES[about["dtype"]], tuple(about["shape"]))
                self._file_of[name] = path
            self.files[path] = list(header)
        if not self.tensors:
            entries = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
            raise ModelError(f"{folder} holds no safetensors file. It has: {entries}")

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor."""
        with safe_open(self._file_of[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    @property
    def num_bytes(self) -> int:
        """Size of all tensors."""
        return sum(kind.num_bytes for kind in self.tensors.values())


def write_tensors(
    path: Path, kinds: Mapping[str, TensorInfo], make: Callable[[str], torch.Tensor]
) -> None:
    """Write a safetensors file with only one tensor in memory at a time.

    Args:
        path: The file.
        kinds: Dtype and shape of each tensor, by name.
        make: Function that returns a tensor by name.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, kind in kinds.items():
        offsets = [end, end := end + kind.num_bytes]
        header[name] = {
            "dtype": _NAMES[kind.dtype],
            "shape": list(kind.shape),
            "data_offsets": offsets,
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, kind in kinds.items():
            tensor = make(name)
            assert (tensor.dtype, tuple(tensor.shape)) == (kind.dtype, kind.shape), name
            file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)


def model_folder(source: str, revision: str | None = None) -> Path:
    """Return the folder of a model, downloaded from the Hub if `source` is not a folder.

    Raises:
        ModelError: The model cannot be downloaded.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(
            snapshot_download(source, revision=revision, allow_patterns=["*.safetensors", "*.json"])
        )
    except Exception as error:
        raise ModelError(explain_missing("model", source, error)) from error


def source_digest(source: str, revision: str | None) -> str:
    """Return a digest of a model's weights, in a folder or on the Hub.

    Raises:
        ModelError: The model does not exist.
    """
    folder = Path(source)
    if folder.is_dir():
        return weights_digest(folder)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except Exception as error:
        raise ModelError(explain_missing("model", source, error)) from error
    return f"{source}@{getattr(config, '_commit_hash', revision)}"
