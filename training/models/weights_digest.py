"""Digest of a model's weights from samples of each file. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

_SAMPLE_BYTES = 1 << 20
_SAMPLES = 16


def weights_digest(source: Path) -> str:
    """Return a digest of a model's weights from samples of each file.

    Training changes every tensor, so samples at several offsets detect it without reading all.

    Args:
        source: Folder of safetensors, or the only file.
    """
    digest = hashlib.sha256()
    for path in [source] if source.is_file() else sorted(source.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(json.dumps([path.name, size]).encode())
        with path.open("rb") as file:
            for part in range(_SAMPLES):
                file.seek(max(0, (size - _SAMPLE_BYTES) * part // (_SAMPLES - 1)))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
