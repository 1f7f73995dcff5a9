"""Content-addressed cache of folders that are written atomically.

One process builds an entry while the others wait for its file lock and then read the same files. No
collective is involved, so no time-out ends a run whose data takes hours to tokenize.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from training.errors import DataError

_SIZES = "sizes.json"


class Cache:
    """Cache in a folder.

    Args:
        folder: Folder of the entries, created if it does not exist.
        fallback: Folder to use if `folder` cannot be written.

    Raises:
        DataError: Neither folder can be written.

    Attributes:
        folder: Folder of the entries.
        fallback_reason: Reason for using `fallback`; empty if it is not used.
    """

    def __init__(self, folder: Path, fallback: Path):
        self.folder = folder
        self.fallback_reason = ""
        fault = _unwritable(folder)
        if fault:
            self.folder = fallback
            self.fallback_reason = (
                f"the cache {folder} cannot be written ({fault}): using {fallback}"
            )
            if second := _unwritable(fallback):
                raise DataError(
                    f"nothing can be cached: {folder} cannot be written ({fault}), and neither can "
                    f"{fallback} ({second})"
                )

    def entry(self, key: str, build: Callable[[Path], None]) -> Path:
        """Return the folder of an entry, after building it if it is missing or incomplete.

        Args:
            key: Key of the content (see `cache_key`).
            build: Function that writes the entry's files to an empty folder.

        Raises:
            DataError: The disk is full, or `build` raised it.
        """
        path = self.folder / key
        if _is_complete(path):
            return path
        with FileLock(self.folder / f"{key}.lock"):
            if not _is_complete(path):
                self._build(path, build)
        return path

    def _build(self, path: Path, build: Callable[[Path], None]) -> None:
        for leftover in self.folder.glob(f"{path.name}.part-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f"{path.name}.part-", dir=self.folder))
        try:
            build(part)
            sizes = {file.name: file.stat().st_size for file in sorted(part.iterdir())}
            (part / _SIZES).write_text(json.dumps(sizes))
            part.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            free = shutil.disk_usage(self.folder).free / 2**20
            raise DataError(
                f"no space left in {self.folder} ({free:.0f} MiB free) for the tokenized data. "
                "Free some, or use less data (data.limit)"
            ) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _unwritable(folder: Path) -> str:
    """Return why `folder` cannot be written; empty if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _is_complete(path: Path) -> bool:
    try:
        sizes: dict[str, int] = json.loads((path / _SIZES).read_text())
        return all((path / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def cache_key(*parts: object) -> str:
    """Return a short key of `parts`, by their text, and of this package's code."""
    text = json.dumps([str(part) for part in (*parts, code_version())])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@functools.cache
def code_version() -> str:
    """Return a digest of this package's files, because other code may produce other rows."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.jinja")]):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()


def write_jsonl(path: Path, rows: Iterable[object], *, append: bool = False) -> None:
    """Write rows as JSON Lines.

    Args:
        path: The file.
        rows: Values that JSON can hold.
        append: Whether to append to the file.
    """
    with path.open("a" if append else "w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
