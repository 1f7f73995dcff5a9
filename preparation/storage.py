"""Folders of a preparation: on a disk, or under a prefix in S3.

S3 is reached by pyarrow's own client: s3fs would need another botocore than boto3 does.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from preparation.passes.building import REPORT_FILE, RESULT

LATEST = "latest"
_S3 = "s3://"


def is_s3(path: str) -> bool:
    """Return whether a path is a prefix in S3."""
    return path.startswith(_S3)


def open_folder(path: str) -> Any:
    """Return datatrove's `DataFolder` of a path."""
    from datatrove.io import get_datafolder

    if not is_s3(path):
        # Absolute: fsspec keeps its folders by their path, also when the working directory changes.
        return get_datafolder(str(Path(path).absolute()))
    from fsspec.implementations.arrow import ArrowFSWrapper

    return get_datafolder((path.removeprefix(_S3), ArrowFSWrapper(s3_filesystem())))


def s3_filesystem() -> Any:
    """Return pyarrow's client of S3, with the Region and endpoint of the AWS CLI and SDKs."""
    from pyarrow.fs import S3FileSystem

    # pyarrow does not read the endpoint from the environment.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return S3FileSystem(region=region, endpoint_override=endpoint)


def is_finished(folder: str) -> bool:
    """Return whether a data set is complete: its report is the last file that appears."""
    if is_s3(folder):
        return bool(open_folder(folder).exists(REPORT_FILE))
    return (Path(folder) / REPORT_FILE).is_file()


def publish(building: str, folder: str) -> None:
    """Give the result of a preparation its name, and remove what was needed to build it.

    Args:
        building: Folder in which it was built.
        folder: Folder of the finished data set.
    """
    if is_s3(building):
        _copy_objects(open_folder(f"{building}/{RESULT}"), open_folder(folder))
        source = open_folder(building)
        source.fs.rm(source.path, recursive=True)
        return
    if Path(folder).exists():
        shutil.rmtree(folder)
    (Path(building) / RESULT).rename(folder)
    shutil.rmtree(building)


def _copy_objects(source: Any, target: Any) -> None:
    """Copy all objects of a prefix; the report, which marks a complete set, last."""
    names = source.list_files()
    for name in sorted(names, key=lambda name: (name == REPORT_FILE, name)):
        with source.open(name, "rb") as read, target.open(name, "wb") as write:
            shutil.copyfileobj(read, write, 1 << 20)


def point_latest(folder: str) -> None:
    """Let `latest` next to a folder name it: a link, or in S3 an object with the folder's name."""
    parent, _, name = folder.rpartition("/")
    if is_s3(folder):
        with open_folder(parent).open(LATEST, "wb") as stream:
            stream.write(name.encode())
        return
    link = Path(parent) / LATEST
    temporary = link.with_name(f".{LATEST}-{name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(link)
