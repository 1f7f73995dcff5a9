"""Amazon S3: upload of a job's inputs, and download of what the job wrote."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from launch.aws.session import explain_aws_errors
from launch.errors import LaunchError
from launch.job_inputs import InputArtifact

_MAX_KEYS_PER_DELETE = 1000
_DAY_S = 86400
_NOT_FOUND = ("NoSuchKey", "NotFound", "404")


@dataclass(frozen=True)
class S3Uri:
    """Address of an object, or of a prefix, in S3."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> S3Uri:
        """Return the address that an `s3://` string names.

        Raises:
            LaunchError: The string is not an S3 address.
        """
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket:
            raise LaunchError(f"{uri}: write s3://BUCKET/KEY")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> S3Uri:
        return S3Uri(self.bucket, f"{self.key.rstrip('/')}/{name}" if self.key else name)


class S3Store:
    """Objects in the buckets of one account.

    Args:
        s3: boto3 client of `s3`.
    """

    def __init__(self, s3: Any):
        self._s3 = s3

    def upload_artifact(
        self, artifact: InputArtifact, bucket: str, upload_days: int | None = None
    ) -> S3Uri:
        """Upload an input below a prefix derived from its content; what exists is not sent again.

        Args:
            artifact: Input of a job.
            bucket: Bucket of the data.
            upload_days: Days after which the bucket deletes uploads. Half of them, at least 30, is
                longer than any job, so an older object is uploaded again.

        Returns:
            The prefix to give to a channel; the input lies below it under its base name.
        """
        prefix = S3Uri(bucket, f"uploads/{artifact.digest[:24]}")
        reuse_days = upload_days / 2 if upload_days else None
        for file in artifact.files:
            to = prefix / artifact.relative_path(file)
            if reuse_days and self._is_older(to, reuse_days):
                self._send(file, to)
            else:
                self.upload_file(file, to)
        return S3Uri(prefix.bucket, prefix.key + "/")

    def upload_file(self, file: Path, to: S3Uri, tags: dict[str, str] | None = None) -> None:
        """Upload a file unless an object of its size exists.

        Args:
            file: File on this machine.
            to: Address of the object.
            tags: Tags of the object; with tags, the file is always uploaded.
        """
        if self._size(to) == file.stat().st_size and tags is None:
            return
        self._send(file, to, {"Tagging": urlencode(tags)} if tags else None)

    def _send(self, file: Path, to: S3Uri, extra: dict[str, str] | None = None) -> None:
        with explain_aws_errors(f"copying {file} to {to}"):
            self._s3.upload_file(str(file), to.bucket, to.key, ExtraArgs=extra)

    def _is_older(self, uri: S3Uri, days: float) -> bool:
        """Return whether an object exists and was written more than `days` ago."""
        with explain_aws_errors(f"checking {uri}", ignore=_NOT_FOUND):
            written = self._s3.head_object(Bucket=uri.bucket, Key=uri.key)["LastModified"]
            return bool(time.time() - written.timestamp() > days * _DAY_S)
        return False

    def put_text(self, text: str, to: S3Uri) -> None:
        """Write a small text object."""
        with explain_aws_errors(f"writing {to}"):
            self._s3.put_object(Bucket=to.bucket, Key=to.key, Body=text.encode())

    def get_text(self, uri: S3Uri) -> str | None:
        """Return a small text object, or None if it does not exist."""
        with explain_aws_errors(f"reading {uri}", ignore=_NOT_FOUND):
            answer = self._s3.get_object(Bucket=uri.bucket, Key=uri.key)
            return str(answer["Body"].read().decode("utf-8", errors="replace"))
        return None

    def download_file(self, uri: S3Uri, to: Path) -> bool:
        """Download an object atomically, and return False if it does not exist."""
        if self._size(uri) is None:
            return False
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_name(f".{to.name}.fetching")
        with explain_aws_errors(f"fetching {uri}"):
            try:
                self._s3.download_file(uri.bucket, uri.key, str(partial))
                partial.replace(to)
            finally:
                partial.unlink(missing_ok=True)
        return True

    def list(self, prefix: S3Uri) -> Iterator[tuple[S3Uri, int]]:
        """Yield every object below a prefix with its size in bytes."""
        for uri, size, _ in self.list_changed(prefix):
            yield uri, size

    def list_changed(self, prefix: S3Uri) -> Iterator[tuple[S3Uri, int, datetime]]:
        """Yield every object below a prefix with its size in bytes and the time of its change."""
        with explain_aws_errors(f"listing {prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=prefix.bucket, Prefix=prefix.key
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    uri = S3Uri(prefix.bucket, entry["Key"])
                    yield uri, int(entry["Size"]), entry["LastModified"]

    def size_bytes(self, prefix: S3Uri) -> int:
        """Return the total size of the objects below a prefix, in bytes."""
        return sum(size for _, size in self.list(prefix))

    def require_objects(self, key: str, prefix: S3Uri) -> None:
        """Raise unless a prefix that the job names contains data.

        Args:
            key: Key of the job that names the prefix, for the message.
            prefix: Address of an object or of a folder.

        Raises:
            LaunchError: The prefix contains nothing, or cannot be listed.
        """
        if not any(size for _, size in self.list(prefix)):
            raise LaunchError(
                f"{key}: {prefix} contains nothing. SageMaker reads every object whose address "
                f"begins with it: check the spelling with `aws s3 ls {prefix}`"
            )

    def delete(self, prefix: S3Uri) -> int:
        """Delete every object below a prefix and return their number.

        Raises:
            LaunchError: Objects are protected (the others are deleted), or the request failed.
        """
        keys = [uri.key for uri, _ in self.list(prefix)]
        failures: list[dict[str, str]] = []
        for start in range(0, len(keys), _MAX_KEYS_PER_DELETE):
            part = [{"Key": key} for key in keys[start : start + _MAX_KEYS_PER_DELETE]]
            with explain_aws_errors(f"deleting {prefix}"):
                answer = self._s3.delete_objects(
                    Bucket=prefix.bucket, Delete={"Objects": part, "Quiet": True}
                )
            # The call succeeds even if single objects are protected: these come in the answer.
            failures += answer.get("Errors", ())
        if failures:
            first = failures[0]
            reason = first.get("Message") or first.get("Code", "no reason given")
            raise LaunchError(
                f"{len(failures)} of {len(keys)} objects below {prefix} were not deleted, the "
                f"first {first['Key']}: {reason}. Someone who may delete them can: "
                f"aws s3 rm --recursive {prefix}"
            )
        return len(keys)

    def _size(self, uri: S3Uri) -> int | None:
        with explain_aws_errors(f"checking {uri}", ignore=_NOT_FOUND):
            return int(self._s3.head_object(Bucket=uri.bucket, Key=uri.key)["ContentLength"])
        return None
