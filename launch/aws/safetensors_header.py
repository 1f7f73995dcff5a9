"""Dtypes and sizes of the tensors in safetensors files, from their headers alone. No torch.

A file begins with the length of a JSON header in 8 bytes (little-endian) and that header.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_MAX_HEADER_BYTES = 100_000_000
"""Limit of the format itself."""


class TensorHeader(NamedTuple):
    """Tensor in a safetensors file.

    Attributes:
        name: Its name.
        dtype: Its dtype as the format writes it, such as `BF16`.
        size_bytes: Its size.
    """

    name: str
    dtype: str
    size_bytes: int


def read_headers(folder: Path) -> Iterator[TensorHeader]:
    """Yield the tensors of all safetensors files in a folder.

    Raises:
        ValueError: A file is no safetensors file, or is cut off.
    """
    for path in sorted(folder.glob("*.safetensors")):
        yield from _read(path)


def _read(path: Path) -> Iterator[TensorHeader]:
    with path.open("rb") as file:
        first = file.read(8)
        length = int.from_bytes(first, "little") if len(first) == 8 else 0
        if not 0 < length <= _MAX_HEADER_BYTES:
            raise ValueError(f"{path.name} is no safetensors file")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise ValueError(f"{path.name} has a header that is no JSON") from error
    header.pop("__metadata__", None)
    end = 8 + length
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        end = max(end, 8 + length + stop)
        yield TensorHeader(name, entry["dtype"], stop - start)
    size = path.stat().st_size
    if size < end:
        raise ValueError(f"{path.name} is cut off: {size:,} of {end:,} bytes")
