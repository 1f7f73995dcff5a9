"""Content-addressed files: `blobs/sha256/<first two digits>/<digest>`, complete or absent."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from registry.errors import RegistryError
from training.export.model_archive import sha256_of_file

_FICLONE = 0x40049409  # from <linux/fs.h>: the copy shares the blocks until one of them is written


def blob_path(root: Path, sha256: str) -> Path:
    """Return the path of the file with a digest."""
    return root / "blobs" / "sha256" / sha256[:2] / sha256


def add_blob(root: Path, source: Path, sha256: str) -> None:
    """Add a file, as a reflink or a hard link if the file system can, else as a copy.

    A hard link shares the file with the run: a tool that writes into the run's file, instead of
    replacing it, changes both, and `check_blob` reports it.

    Args:
        root: Folder of the registry.
        source: The file.
        sha256: Its digest.

    Raises:
        RegistryError: The file cannot be stored, or was changed since its digest was taken.
    """
    target = blob_path(root, sha256)
    if target.exists():
        check_blob(root, sha256)
        return
    building = target.with_name(f".{sha256}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not _link(source, building):
            shutil.copyfile(source, building)
        if sha256_of_file(building) != sha256:
            raise RegistryError(f"{source} was changed while it was registered. Register it again")
        with building.open("rb") as file:
            os.fsync(file.fileno())
        building.replace(target)
    except OSError as error:
        raise RegistryError(
            f"{target} cannot be written: {error.strerror or error}. Make it writable, free space, "
            f"or name another registry with --registry"
        ) from error
    finally:
        with suppress(OSError):  # of a folder that cannot be used
            building.unlink()


def _link(source: Path, target: Path) -> bool:
    """Return True if a target that shares the source's blocks could be made."""
    with suppress(OSError), source.open("rb") as old, target.open("wb") as new:
        fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        return True
    target.unlink(missing_ok=True)
    with suppress(OSError):
        os.link(source.resolve(), target)
        return True
    return False


def check_blob(root: Path, sha256: str) -> None:
    """Raise if a stored file is missing or is no longer the one that was registered.

    Raises:
        RegistryError: It is.
    """
    path = blob_path(root, sha256)
    try:
        actual = sha256_of_file(path)
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror or error}") from error
    if actual != sha256:
        raise RegistryError(
            f"{path} was changed: its SHA-256 is {actual}. Remove it and register the run again"
        )
