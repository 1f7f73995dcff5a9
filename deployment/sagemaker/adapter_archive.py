"""Archive of an adapter, because a component reads one `.tar.gz` and no folder."""

from __future__ import annotations

import gzip
import tarfile
import tempfile
from pathlib import Path

from deployment.account import DeploymentAccount
from deployment.model import DeployedModel
from deployment.sagemaker.requests import FILES
from launch.aws.s3 import S3Store, S3Uri

_SUFFIX = ".tar.gz"


def archive_address(account: DeploymentAccount, deployment: str, model: DeployedModel) -> S3Uri:
    """Return the address of the archive of an adapter, which names its version and its files.

    Args:
        account: Account of the deployment.
        deployment: Name of the deployment.
        model: The adapter.
    """
    bucket = account.platform["buckets/runs"]
    file = f"{model.name}@{model.version}-{model.tree[:12]}{_SUFFIX}"
    return S3Uri(bucket, f"{FILES}/{deployment}/adapters/{file}")


def model_of_archive(address: str) -> str:
    """Return the NAME@VERSION that the address of an archive names; empty if it names none."""
    file = address.rpartition("/")[2].removesuffix(_SUFFIX)
    return file.rpartition("-")[0] if "@" in file else ""


def upload_archive(account: DeploymentAccount, deployment: str, model: DeployedModel) -> S3Uri:
    """Pack the files of an adapter unless that was done, and return the address of the archive.

    Args:
        account: Account of the deployment.
        deployment: Name of the deployment.
        model: The adapter.
    """
    store, address = S3Store(account.client("s3")), archive_address(account, deployment, model)
    if any(store.list(address)):
        return address
    with tempfile.TemporaryDirectory() as folder:
        root, packed = Path(folder) / "adapter", Path(folder) / f"adapter{_SUFFIX}"
        for file in model.files:
            store.download_file(S3Uri.parse(model.folder) / file, root / file)
        with (
            gzip.GzipFile(packed, "wb", mtime=0) as compressed,
            tarfile.open(fileobj=compressed, mode="w") as archive,
        ):
            for file in model.files:
                archive.add(root / file, arcname=file, filter=_plain)
        store.upload_file(packed, address)
    return address


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return an entry without owner and time, so that equal files make equal archives."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime, entry.mode = 0, 0o644
    return entry
