"""The source code that trains, for targets whose machines do not have it in an image."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("training", "planning", "containers", "catalog", "account", "validation"),
    *("safety", "evaluation", "feedback"),
)
_SUFFIXES = frozenset((".py", ".yaml", ".jinja", ".html", ".css", ".json"))


def code_files(root: Path = ROOT) -> list[tuple[Path, str]]:
    """Return the files of the packages that train, each with its path relative to `root`."""
    return [
        (path, path.relative_to(root).as_posix())
        for package in PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.suffix in _SUFFIXES and path.is_file() and "__pycache__" not in path.parts
    ]


def code_digest(files: list[tuple[Path, str]]) -> str:
    """Return a digest of the files' names and contents, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path, name in files:
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
