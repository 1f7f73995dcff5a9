"""Digests of contents, by which a step knows whether it has run on the same inputs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest_of(value: Any) -> str:
    """Return the digest of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def path_digest(path: Path, pattern: str = "*") -> str:
    """Return the digest of a file, or of the names and contents of the files in a folder.

    Args:
        path: The file or folder.
        pattern: Pattern of the files of a folder; hidden ones are left out.
    """
    if path.is_file():
        return _file_digest(path)
    files = [
        file
        for file in sorted(path.rglob(pattern))
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts)
    ]
    return digest_of([[file.relative_to(path).as_posix(), _file_digest(file)] for file in files])


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
