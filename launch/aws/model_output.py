"""Download of a trained model from where a SageMaker training job left it.

With `OutputDataConfig.CompressionType: NONE` the files of the model are objects below a prefix;
otherwise, as in jobs of earlier versions, the model is one object, `model.tar.gz`. The description
of the job names either in `S3ModelArtifacts`.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_OutputDataConfig.html
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.aws.model_archive import unpack_model
from launch.aws.s3 import S3Store, S3Uri
from launch.downloads import path_within
from training.config.job import EXPORT_FORMATS

_ARCHIVE = "model.tar.gz"


def fetch_model(
    store: S3Store, job: Mapping[str, Any], folder: Path, *, archive: bool
) -> list[Path]:
    """Download a job's model into a run folder; return its path, or nothing if there is none.

    Args:
        store: Object store of the account.
        job: Description of the training job; empty if SageMaker no longer has it.
        folder: Run folder.
        archive: Store the model as `model.tar.gz` instead of as a folder.

    Raises:
        LaunchError: The model cannot be read, or one of its names leads out of the folder.
    """
    uri = job.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    if not uri:
        return []
    packed, model = folder / _ARCHIVE, folder / "model"
    if str(uri).endswith(".tar.gz"):
        if not store.download_file(S3Uri.parse(uri), packed):
            return []
        if archive:
            return [packed]
        unpack_model(packed, model)
        packed.unlink()
        return [model]
    if not download_folder(store, S3Uri.parse(f"{str(uri).rstrip('/')}/"), model):
        return []
    if not archive:
        return [model, *_exports(model)]
    _pack(model, packed)
    shutil.rmtree(model)
    return [packed]


def _exports(model: Path) -> list[Path]:
    """Move the other formats of a model to where a local run has them, and return their folders."""
    folders = [folder for name in EXPORT_FORMATS if (folder := model / name).is_dir()]
    targets = [model.parent / "export" / folder.name for folder in folders]
    for folder, target in zip(folders, targets, strict=True):
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    return targets


def download_folder(store: S3Store, prefix: S3Uri, to: Path) -> bool:
    """Download every object below a prefix into a folder that is renamed when it is complete.

    Args:
        store: Object store of the account.
        prefix: The prefix.
        to: The folder.

    Returns:
        False if the prefix has no object; an existing folder is then kept.
    """
    partial = to.with_name(f".{to.name}.fetching")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        # All names are checked before the first file is written.
        wanted = {
            uri: path_within(partial, uri.key.removeprefix(prefix.key), str(uri))
            for uri, _ in store.list(prefix)
            if not uri.key.endswith("/")
        }
        for uri, path in wanted.items():
            store.download_file(uri, path)
        if not wanted:
            return False
        if to.is_symlink():
            to.unlink()
        shutil.rmtree(to, ignore_errors=True)
        partial.rename(to)
        return True
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _pack(model: Path, packed: Path) -> None:
    partial = packed.with_name(f".{packed.name}.writing")
    with tarfile.open(partial, "w:gz") as file:
        for part in sorted(model.iterdir()):
            file.add(part, part.name)
    partial.replace(packed)
