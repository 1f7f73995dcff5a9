"""Model that a recipe of SageMaker's hub wrote: its merged weights, or its adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.aws.model_output import download_folder
from launch.aws.s3 import S3Store, S3Uri
from training.export.checksums import write_checksums

_PARTS = ("checkpoints/hf_merged/", "checkpoints/hf/")


def fetch_recipe_model(store: S3Store, job: Mapping[str, Any], folder: Path) -> bool:
    """Download the model of a finished job with its checksums; return whether it has one.

    Args:
        store: Object store of the account.
        job: Description of the training job.
        folder: Folder for the files of the model.
    """
    uri = str(job.get("ModelArtifacts", {}).get("S3ModelArtifacts") or "").rstrip("/")
    for part in _PARTS:
        if uri and download_folder(store, S3Uri.parse(f"{uri}/{part}"), folder):
            write_checksums(folder)
            return True
    return False
