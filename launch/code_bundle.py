"""The code that trains, as it stands here, for places that do not have it in an image."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("training", "planning", "containers", "catalog", "account")
_SUFFIXES = frozenset((".py", ".yaml", ".jinja", ".html", ".css", ".json"))


def code_files(root: Path = ROOT) -> list[tuple[Path, str]]:
    """Return the files of the packages that train, each with its place below a common folder."""
    return [
        (path, path.relative_to(root).as_posix())
        for package in PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.suffix in _SUFFIXES and path.is_file() and "__pycache__" not in path.parts
    ]


def code_digest(files: list[tuple[Path, str]]) -> str:
    """Return a digest of names and content."""
    total = hashlib.sha256()
    for path, name in files:
        total.update(name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]
