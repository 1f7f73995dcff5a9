"""Objects of a source in S3: listed with their ETags, and read by pyarrow's client."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from preparation.config.source import S3, PreparedSource
from preparation.documents import is_document
from preparation.storage import s3_filesystem
from training.data.readers.formats import kind_of
from training.data.readers.sources import PREPARED_MARKS
from training.errors import DataError, RunError

THREADS = 16
_BLOCK_BYTES = 4 << 20
_ERRORS = (
    ("NO_SUCH_BUCKET", DataError, "there is no such bucket"),
    (
        "ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|UNRECOGNIZED_CLIENT|HTTP 403",
        DataError,
        "access is denied. The credentials in use need s3:ListBucket on the bucket, s3:GetObject "
        "on the objects, and kms:Decrypt if they are encrypted with a key of your own; "
        "`aws sts get-caller-identity` says whose they are",
    ),
    (
        "PERMANENT_REDIRECT|AUTHORIZATION_HEADER_MALFORMED|HTTP 301|the region .* is wrong",
        DataError,
        "the bucket is in another Region. Set AWS_REGION to it",
    ),
    (
        "NETWORK_CONNECTION|REQUEST_TIMEOUT|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE",
        RunError,
        "S3 does not answer. The same command tries again, and copies what is missing",
    ),
)  # fmt: skip
"""Names of errors in pyarrow's messages, and what to tell the user."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """Object of a source.

    Attributes:
        path: Bucket and key.
        name: Path below the folder of the source, or the name of the only object.
        bytes: Its size.
        etag: Its ETag, which another content changes.
    """

    path: str
    name: str
    bytes: int
    etag: str


@dataclass(frozen=True)
class S3Listing:
    """Objects of a source.

    Attributes:
        uri: Address as the job names it.
        is_object: True for the address of one object, False for that of a folder.
        objects: The objects that are read, by name.
    """

    uri: str
    is_object: bool
    objects: tuple[S3Object, ...]

    @property
    def name(self) -> str:
        """Name of the object or folder, as that of a local copy would be."""
        return PurePosixPath(self.uri.removeprefix(S3)).name

    @property
    def bytes(self) -> int:
        """Size of all objects."""
        return sum(one.bytes for one in self.objects)

    @property
    def version(self) -> str:
        """Digest of names, sizes and ETags."""
        listed = [(one.name, one.bytes, one.etag) for one in self.objects]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def list_objects(source: PreparedSource) -> S3Listing:
    """List the objects of a source that are data or documents.

    Raises:
        DataError: It does not exist, holds nothing that is read, or access is denied.
        RunError: S3 cannot be reached.
    """
    from pyarrow.fs import FileSelector, FileType

    uri = source.source
    path = uri.removeprefix(S3).rstrip("/")
    with explained_errors(uri):
        s3 = s3_filesystem()
        kind = s3.get_file_info(path).type
        if kind == FileType.NotFound:
            raise DataError(f"{uri}: {_missing(s3, path)}")
        is_object = kind == FileType.File and not uri.endswith("/")
        if is_object:
            names = {path: PurePosixPath(path).name}
        else:
            found = s3.get_file_info(FileSelector(path, recursive=True))
            files = [one.path for one in found if one.type == FileType.File]
            names = _names_of_data(uri, path, files, source)
        with ThreadPoolExecutor(THREADS) as pool:
            heads = list(pool.map(lambda one: _head(s3, one), names))
    objects = [
        S3Object(path, name, size, etag)
        for (path, name), (size, etag) in zip(names.items(), heads, strict=True)
    ]
    return S3Listing(uri, is_object, tuple(sorted(objects, key=lambda one: one.name)))


def _names_of_data(
    uri: str, folder: str, files: Sequence[str], source: PreparedSource
) -> dict[str, str]:
    """Return the name below the folder of each file that is data or a document.

    Raises:
        DataError: None is.
    """
    names = {path: path.removeprefix(f"{folder}/") for path in files}
    data = {
        path: name
        for path, name in names.items()
        if not any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
        and (kind_of(Path(name)) or is_document(Path(name), source) or name in PREPARED_MARKS)
    }
    if not data:
        kinds = Counter(PurePosixPath(name).suffix or "no suffix" for name in names.values())
        listed = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common(5))
        raise DataError(
            f"{uri}: none of its {len(names):,} objects is of a format that is read: {listed}"
        )
    return data


def _head(s3: Any, path: str) -> tuple[int, str]:
    with s3.open_input_stream(path) as stream:
        metadata = stream.metadata()
    return int(metadata["Content-Length"]), metadata["ETag"].decode().strip('"')


def download(source_uri: str, one: S3Object, to: BinaryIO, limit: int | None = None) -> None:
    """Copy the content of an object.

    Args:
        source_uri: Address of the source, for messages.
        one: The object.
        to: File to write.
        limit: Number of bytes after which to stop.

    Raises:
        DataError: The object is no longer the one that was listed.
        RunError: S3 cannot be reached.
    """
    with explained_errors(source_uri):
        s3 = s3_filesystem()
        left = one.bytes if limit is None else min(limit, one.bytes)
        with s3.open_input_stream(one.path) as stream:
            while left and (block := stream.read(min(left, _BLOCK_BYTES))):
                to.write(block)
                left -= len(block)
        # Several requests read it: the ETag after the last one is that of all.
        if left or _head(s3, one.path) != (one.bytes, one.etag):
            raise DataError(
                f"{S3}{one.path}: it changed while it was read. Run the same command again once "
                "nothing writes to the source"
            )


def _missing(s3: Any, path: str) -> str:
    from pyarrow.fs import FileType

    bucket, _, key = path.partition("/")
    if s3.get_file_info(bucket).type == FileType.NotFound:
        return f"there is no bucket {bucket}, or these credentials cannot see it"
    return f"the bucket has no object {key}, and none below {key}/"


@contextmanager
def explained_errors(uri: str) -> Iterator[None]:
    """Convert the errors of pyarrow's client.

    Args:
        uri: Address of the source.

    Raises:
        DataError: The source does not exist, or cannot be read with these credentials.
        RunError: S3 cannot be reached, or failed.
        OSError: A file on this machine cannot be written.
    """
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{uri}: an object was deleted while it was read. Run the same command again"
        ) from None
    except OSError as error:
        if error.errno is not None:
            raise  # of the file that is written
        text = str(error)
        for pattern, kind, message in _ERRORS:
            if re.search(pattern, text):
                raise kind(f"{uri}: {message}") from None
        raise RunError(f"{uri}: S3 failed: {text.partition(' (Request ID')[0]}") from None
