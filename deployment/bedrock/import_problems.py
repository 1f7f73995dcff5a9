"""Rules of Bedrock's import, applied to the files of a version where they lie in S3.

Of the weights only the headers are read, so that a model of 100 GB is checked in seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deployment.account import DeploymentAccount
from deployment.model import DeployedModel
from launch.aws.import_check import check_import
from launch.aws.s3 import S3Uri
from launch.aws.session import explain_aws_errors
from training.errors import Problem

_LENGTH_BYTES = 8
_TEXTS = (".json", ".jinja")
_MAX_HEADER_BYTES = 100_000_000


def import_problems(account: DeploymentAccount, model: DeployedModel) -> Iterator[Problem]:
    """Yield the reasons for which Bedrock would refuse a version, or answer wrongly with it.

    Args:
        account: Account of the deployment.
        model: The version.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in model.files:
            _fetch(account.client("s3"), S3Uri.parse(model.folder) / file, folder / file)
        for finding in check_import(folder, account.environment.region):
            if finding.refused:
                text = finding.message.replace(str(folder), model.folder)
                yield Problem("model", text, model.id)


def _fetch(s3: Any, source: S3Uri, to: Path) -> None:
    """Write what the rules read of a file: a text, or a header in a file of the same size."""
    if to.suffix not in (*_TEXTS, ".safetensors"):
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    with explain_aws_errors(f"reading {source}"):
        if to.suffix in _TEXTS:
            to.write_bytes(s3.get_object(Bucket=source.bucket, Key=source.key)["Body"].read())
            return
        first = s3.get_object(
            Bucket=source.bucket, Key=source.key, Range=f"bytes=0-{_LENGTH_BYTES - 1}"
        )
        start = first["Body"].read()
        size = int(first["ContentRange"].rpartition("/")[2])
        length = min(int.from_bytes(start, "little"), _MAX_HEADER_BYTES, size - len(start))
        header = b""
        if length > 0:
            end = len(start) + length - 1
            part = s3.get_object(
                Bucket=source.bucket, Key=source.key, Range=f"bytes={len(start)}-{end}"
            )
            header = part["Body"].read()
    with to.open("wb") as file:
        file.write(start + header)
        file.truncate(size)  # sparse: only the header takes room
