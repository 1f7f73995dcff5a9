"""Folder of a registered version, for programs that read a model from a folder."""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from registry.blobs import blob_path, check_blob
from registry.errors import RegistryError
from registry.record import ModelRecord

_LOADABLE = ("safetensors-merged", "safetensors", "adapter")
"""Forms that Transformers and PEFT load, most complete first."""


def checkout(root: Path, record: ModelRecord) -> Path:
    """Return a folder with the model of a version, made of links to the stored files.

    Every file is compared with its digest first: what is loaded is what was registered.

    Args:
        root: Folder of the registry.
        record: The version.

    Raises:
        RegistryError: A file was changed, or the version has no form that can be loaded.
    """
    form = next((name for name in _LOADABLE if name in record.forms), None)
    if form is None:
        raise RegistryError(
            f"{record.id} has {', '.join(record.forms)}, none of which Transformers loads"
        )
    files = record.forms[form]
    for file in files.values():
        check_blob(root, file.sha256)
    folder = (root / "checkouts" / record.name / str(record.version) / form).absolute()
    if _is_complete(folder, root, {path: file.sha256 for path, file in files.items()}):
        return folder
    building = folder.with_name(f".{form}.{uuid.uuid4().hex}")
    try:
        for path, file in files.items():
            link = building / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob_path(root, file.sha256).absolute())
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(FileExistsError):  # another process was faster
            building.rename(folder)
    except OSError as error:
        raise RegistryError(
            f"{folder} cannot be written: {error.strerror or error}. Make it writable, or free "
            f"space"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _is_complete(folder: Path, root: Path, sums: dict[str, str]) -> bool:
    """Return whether a folder has exactly the links of a version."""
    found = {
        path.relative_to(folder).as_posix(): str(path.readlink())
        for path in folder.rglob("*")
        if path.is_symlink()
    }
    return found == {path: str(blob_path(root, sha).absolute()) for path, sha in sums.items()}
