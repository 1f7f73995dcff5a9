"""A model's archive, unpacked whole or not at all."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from launch.errors import LaunchError


def unpack_model(packed: Path, to: Path) -> None:
    """Unpack beside the place, and put it there when it is whole.

    Raises:
        LaunchError: The archive is damaged, or holds what no model has (a path that leads outside).
    """
    building = to.with_name(f".{to.name}.fetching")
    shutil.rmtree(building, ignore_errors=True)
    try:
        with tarfile.open(packed) as archive:
            archive.extractall(building, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        shutil.rmtree(building, ignore_errors=True)
        raise LaunchError(f"{packed} cannot be unpacked: {error}. Fetch it again") from None
    if to.is_symlink():
        to.unlink()
    shutil.rmtree(to, ignore_errors=True)
    building.rename(to)
