"""Atomic extraction of a model archive."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from launch.downloads import extract_archive
from launch.errors import LaunchError


def unpack_model(packed: Path, to: Path) -> None:
    """Extract an archive next to its destination, and rename it when it is complete.

    Raises:
        LaunchError: The archive is damaged, or contains an unsafe member (a path that leads out).
    """
    partial = to.with_name(f".{to.name}.fetching")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tarfile.open(packed) as archive:
            extract_archive(archive, partial, str(packed))
    except (tarfile.TarError, EOFError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise LaunchError(f"{packed} cannot be unpacked: {error}. Fetch it again") from None
    if to.is_symlink():
        to.unlink()
    shutil.rmtree(to, ignore_errors=True)
    partial.rename(to)
