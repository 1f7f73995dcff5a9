"""Upload of a version's files to the artifacts of an MLflow run, in a folder named by digest."""

from __future__ import annotations

import hashlib
import posixpath
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry.blobs import blob_path, check_blob
from registry.errors import RegistryError
from registry.record import FileDigest, ModelRecord
from registry.store import LocalRegistry
from training.export.checksums import CHECKSUMS

RECORD = "record.json"


def record_text(record: ModelRecord) -> str:
    """Return the text of a record without its stages, which change after the upload."""
    return replace(record, transitions=()).to_json()


def record_digest(record: ModelRecord) -> str:
    """Return the digest of a record without its stages: of its files and all that it says."""
    return hashlib.sha256(record_text(record).encode()).hexdigest()


def check_files(record: ModelRecord, store: LocalRegistry) -> None:
    """Compare every file of a version with its digest.

    Raises:
        RegistryError: One is missing or was changed.
    """
    for file in _files(record).values():
        check_blob(store.root, file.sha256)


def upload(client: Any, run_id: str, record: ModelRecord, store: LocalRegistry) -> str:
    """Upload what is missing of a version's files and return their folder in the run's artifacts.

    A file that an interrupted upload cut is shorter than it should be, and is sent again.

    Args:
        client: MLflow client.
        run_id: The run.
        record: The version.
        store: Registry that has its files.

    Raises:
        RegistryError: Files are missing after the upload.
    """
    folder = f"registered/{record_digest(record)[:32]}"
    with tempfile.TemporaryDirectory(prefix="temper-mlflow-") as temporary:
        local = Path(temporary)
        sizes = _lay_out(local, record, store)
        for path in sizes.keys() & _present(client, run_id, folder, sizes):
            (local / path).unlink()
        if any(path.is_file() for path in local.rglob("*")):
            client.log_artifacts(run_id, str(local), folder)
    missing = sorted(sizes.keys() - _present(client, run_id, folder, sizes))
    if missing:
        raise RegistryError(
            f"{record.id}: {', '.join(missing[:5])} did not arrive in {folder} of the MLflow run "
            f"{run_id}. Run the same command again"
        )
    return folder


def _files(record: ModelRecord) -> dict[str, FileDigest]:
    files = {f"evidence/{path}": file for path, file in record.evidence.items()}
    for form, members in record.forms.items():
        files.update({f"{form}/{path}": file for path, file in members.items()})
    return files


def _lay_out(local: Path, record: ModelRecord, store: LocalRegistry) -> dict[str, int]:
    """Make links to the files under their own names; return the size of each."""
    sizes = {}
    for path, file in _files(record).items():
        link = local / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob_path(store.root.resolve(), file.sha256))
        sizes[path] = file.size_bytes
    texts = {RECORD: record_text(record)}
    for form, members in record.forms.items():
        lines = [f"{members[path].sha256}  {path}\n" for path in sorted(members)]
        texts[f"{form}/{CHECKSUMS}"] = "".join(lines)
    for path, text in texts.items():
        (local / path).write_text(text, encoding="utf-8")
        sizes[path] = len(text.encode())
    return sizes


def _present(client: Any, run_id: str, folder: str, sizes: dict[str, int]) -> set[str]:
    """Return the files that are there in full.

    Args:
        client: MLflow client.
        run_id: The run.
        folder: Folder in the artifacts of the run.
        sizes: Size of each file by its path in the folder.
    """
    present = set()
    for parent in sorted({posixpath.dirname(path) for path in sizes}):
        place = posixpath.join(folder, parent) if parent else folder
        for entry in client.list_artifacts(run_id, place):
            path = posixpath.relpath(entry.path, folder)
            if not entry.is_dir and sizes.get(path) == entry.file_size:
                present.add(path)
    return present
