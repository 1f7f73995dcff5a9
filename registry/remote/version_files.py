"""Files of a version in a bucket: its forms, evidence and metrics, below their digests."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.aws.s3 import S3Store, S3Uri
from registry.blobs import blob_path
from registry.errors import RegistryError
from registry.record import FileDigest, ModelRecord, tree_digest
from registry.remote.base import trees_of
from registry.remote.s3_files import S3Files
from registry.store import LocalRegistry

_FOLDER = "registry/sha256"


def folder_of(tree: str) -> str:
    """Return the key prefix of the files of a tree digest, which ends in `/`."""
    return f"{_FOLDER}/{tree}/"


@dataclass(frozen=True)
class UploadedVersion:
    """Addresses of the files of a version.

    Attributes:
        forms: Address of each form, which ends in `/`.
        metrics: Address of the results of all suites; None without an evaluation.
        metrics_sha256: Digest of that file.
        checksums: Digest of the checksums that S3 has of the files of all forms.
        evidence: Address of the job, manifest and results, which ends in `/`; None without any.
    """

    forms: Mapping[str, str]
    metrics: str | None
    metrics_sha256: str | None
    checksums: str
    evidence: str | None = None


def upload_version(files: S3Files, record: ModelRecord, store: LocalRegistry) -> UploadedVersion:
    """Upload the files of a version that S3 does not have yet.

    Args:
        files: The bucket.
        record: The version.
        store: Registry that has its files.

    Raises:
        RegistryError: A file is missing or was changed, here or in S3.
        LaunchError: S3 refused.
    """
    checksums: dict[str, str | None] = {}
    for form, tree in trees_of(record).items():
        checksums |= _upload_tree(files, record.forms[form], tree, store)
    evidence = None
    if record.evidence:
        evidence = tree_digest(record.evidence)
        _upload_tree(files, record.evidence, evidence, store)
    metrics, metrics_sha256 = _upload_metrics(files, record)
    return UploadedVersion(
        forms={form: _address(files, f"{tree}/") for form, tree in trees_of(record).items()},
        metrics=metrics,
        metrics_sha256=metrics_sha256,
        checksums=_digest(checksums),
        evidence=evidence and _address(files, f"{evidence}/"),
    )


def check_version(files: S3Files, record: ModelRecord, checksums: str | None) -> None:
    """Raise if a file of a form in S3 is not the one that was pushed.

    Args:
        files: The bucket.
        record: The version.
        checksums: Digest of the checksums that S3 had when the version was pushed.

    Raises:
        RegistryError: A file is missing or was changed.
    """
    keys = [
        folder_of(tree) + path
        for form, tree in trees_of(record).items()
        for path in record.forms[form]
    ]
    _check_keys(files, record.id, keys, checksums)


def check_folders(
    files: S3Files, version: str, trees: Mapping[str, str], checksums: str | None
) -> None:
    """Raise if the folders of a version's forms hold other files than those that were pushed.

    Args:
        files: The bucket.
        version: NAME@VERSION, for messages.
        trees: Tree digest of each form.
        checksums: Digest of the checksums that S3 had when the version was pushed.

    Raises:
        RegistryError: A file is missing, was changed or was added.
    """
    store = S3Store(files.s3)
    folders = [S3Uri(files.bucket, folder_of(tree)) for tree in trees.values()]
    keys = [uri.key for folder in folders for uri, _ in store.list(folder)]
    _check_keys(files, version, keys, checksums)


def _check_keys(files: S3Files, version: str, keys: Sequence[str], checksums: str | None) -> None:
    actual = {key: files.checksum(key) for key in keys}
    missing = [key for key, checksum in actual.items() if checksum is None]
    if missing or _digest(actual) != checksums:
        which = f"{', '.join(missing)} missing" if missing else "a file was changed"
        raise RegistryError(
            f"the files of {version} in {_address(files, '')} are not those that were pushed: "
            f"{which}. `temper push-model {version}` names it"
        )


def _upload_tree(
    files: S3Files, digests: Mapping[str, FileDigest], tree: str, store: LocalRegistry
) -> dict[str, str]:
    """Upload files below their tree digest, and return their checksums by key.

    Args:
        files: The bucket.
        digests: The files by path.
        tree: Their tree digest.
        store: Registry that has them.

    Raises:
        RegistryError: A file is missing or was changed, here or in S3.
    """
    checksums = {}
    for path, file in digests.items():
        key = folder_of(tree) + path
        local = blob_path(store.root, file.sha256)
        if not local.is_file():
            raise RegistryError(f"{local} is missing. Register the run again")
        checksums[key] = files.put(local, key, file.sha256)
    return checksums


def _upload_metrics(files: S3Files, record: ModelRecord) -> tuple[str | None, str | None]:
    """Upload the results on all suites as one file, because a package refers to one."""
    if not record.evaluations:
        return None, None
    text = json.dumps({"evaluations": record.evaluations}, indent=1, sort_keys=True)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "evaluations.json"
        file.write_text(text, encoding="utf-8")
        files.put(file, f"{_FOLDER}/{sha256}/evaluations.json", sha256)
    return _address(files, f"{sha256}/evaluations.json"), sha256


def _address(files: S3Files, path: str) -> str:
    return f"s3://{files.bucket}/{_FOLDER}/{path}"


def _digest(checksums: Mapping[str, str | None]) -> str:
    text = "".join(f"{checksums[key]}  {key}\n" for key in sorted(checksums))
    return hashlib.sha256(text.encode()).hexdigest()
