"""Output of an export that gets its final name when it is complete and verified."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import RunError


@contextmanager
def atomic_output(target: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `target` on success and is removed on failure.

    Raises:
        RunError: The path cannot be written.
    """
    output = target.with_name(f".writing-{target.name}")
    _remove(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield output
        _remove(target)
        output.rename(target)
    except OSError as error:
        raise RunError(
            f"{target} cannot be written: {error.strerror or error}. Free space, or name another "
            f"path with TO=…"
        ) from error
    finally:
        _remove(output)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
