"""Work done once: folders named by what they hold, written whole or not at all.

One process builds an entry while the others wait for its lock and then read the same files; no
collective is involved, so nothing times out however long it takes.
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
    """Entries under a folder.

    Args:
        folder: Made when it is not there.
        otherwise: Used in its place when it cannot be written to.

    Attributes:
        folder: Where entries are.
        moved: Why it is not the folder asked for; empty when it is.
    """

    def __init__(self, folder: Path, otherwise: Path):
        self.folder = folder
        self.moved = ""
        fault = _unwritable(folder)
        if fault:
            self.folder = otherwise
            self.moved = f"the cache {folder} cannot be written ({fault}): using {otherwise}"
            if second := _unwritable(otherwise):
                raise DataError(
                    f"nothing can be cached: {folder} cannot be written ({fault}), and neither can "
                    f"{otherwise} ({second})"
                )

    def entry(self, key: str, build: Callable[[Path], None]) -> Path:
        """Return the folder of `key`, built first when it is not there whole.

        Args:
            key: Names the content; see `cache_key`.
            build: Writes the entry's files into the empty folder it is given.

        Raises:
            DataError: No space left, or what `build` raises.
        """
        path = self.folder / key
        if _whole(path):
            return path
        with FileLock(self.folder / f"{key}.lock"):
            if not _whole(path):
                self._build(path, build)
        return path

    def _build(self, path: Path, build: Callable[[Path], None]) -> None:
        for left in self.folder.glob(f"{path.name}.part-*"):
            shutil.rmtree(left, ignore_errors=True)
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
    """Return why nothing can be written to `folder`; empty when something can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _whole(path: Path) -> bool:
    try:
        sizes: dict[str, int] = json.loads((path / _SIZES).read_text())
        return all((path / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def cache_key(*parts: object) -> str:
    """Return a short key for `parts`, each told apart by its text."""
    text = json.dumps([str(part) for part in (*parts, code_version())])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@functools.cache
def code_version() -> str:
    """Return a digest of this package's own files: other code may make other rows."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.jinja")]):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()


def write_jsonl(path: Path, rows: Iterable[object], *, append: bool = False) -> None:
    """Write rows as JSON Lines."""
    with path.open("a" if append else "w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
