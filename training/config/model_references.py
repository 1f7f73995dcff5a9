"""Models that a job names by a run or an archive, replaced by the folders that hold them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zlib
from pathlib import Path

from training.config.locations import Location, existing_path
from training.errors import ModelError

RUN = "run:"
"""Prefix of a reference to a run: `run:NAME` is its newest model, `run:NAME/ID` that of one run."""
RUNS = Path("runs")
_ARCHIVE = (".tar.gz", ".tgz")
_CONFIGURATIONS = ("config.json", "adapter_config.json")


def model_folder_of(location: Location) -> str | None:
    """Return the folder of a model that is named by a run or is an archive; None for other values.

    Args:
        location: Key of a job, and its value.

    Raises:
        ModelError: The run has no model on this machine, or the archive cannot be unpacked.
    """
    if location.field.kind not in ("model", "adapter"):
        return None
    if location.value.startswith(RUN):
        return str(_model_of_run(location))
    path = existing_path(location.value)
    if path is not None and path.is_file() and path.name.endswith(_ARCHIVE):
        return str(_unpacked(path, location))
    return None


def _model_of_run(location: Location) -> Path:
    name, _, run_id = location.value.removeprefix(RUN).partition("/")
    runs = RUNS / name
    where = f"{location.path}: {location.value}"
    if not name or not runs.is_dir():
        names = sorted(p.name for p in RUNS.iterdir() if p.is_dir()) if RUNS.is_dir() else []
        known = f"Runs of these jobs are here: {', '.join(names[:8])}" if names else "There is none"
        raise ModelError(f"{where}: no run of this name in {RUNS}/. {known}")
    folder = (runs / run_id).resolve() if run_id else (runs / "latest").resolve()
    if not folder.is_dir():
        ids = ", ".join(sorted(p.name for p in runs.iterdir() if p.name != "latest")[-4:])
        raise ModelError(f"{where}: there is no such run of {name}. Its runs are: {ids}")
    model = runs / folder.name / "model"
    if not any(model.glob("*.safetensors")):
        raise ModelError(
            f"{where}: {runs / folder.name} has no trained model on this machine. Wait for its "
            f"end, or download it: temper fetch {name}/{folder.name}"
        )
    return model


def _unpacked(archive: Path, location: Location) -> Path:
    """Return the folder of an archive's contents in the cache, unpacked once.

    Raises:
        ModelError: The archive is damaged, unsafe, or holds no model at its root.
    """
    stat = archive.stat()
    identity = f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    cache = Path(os.environ.get("TEMPER_CACHE") or Path.home() / ".cache/temper") / "models"
    folder = cache / hashlib.sha256(identity.encode()).hexdigest()[:16]
    where = f"{location.path}: {location.value}"
    if not folder.exists():
        partial = folder.with_name(f".{os.getpid()}-{folder.name}")
        try:
            partial.mkdir(parents=True)
            with tarfile.open(archive, "r:gz") as packed:
                # The filter refuses absolute paths, `..`, and links that leave the folder.
                packed.extractall(partial, filter="data")
            if not any((partial / name).exists() for name in _CONFIGURATIONS):
                raise ModelError(f"{where}: the archive has no config.json at its root")
            partial.rename(folder)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            if folder.exists():
                return folder  # another process was faster
            raise ModelError(f"{where}: the archive cannot be unpacked: {error}") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder
