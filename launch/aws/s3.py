"""S3: putting a job's baggage where the job can read it, and bringing back what it made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from botocore.exceptions import ClientError

from launch.aws.session import code_of, explained
from launch.errors import LaunchError
from launch.job_inputs import InputArtifact

CHECKPOINT_TAG = {"temper": "checkpoint"}
"""What the platform's lifecycle rule deletes after its time."""

_DELETE_AT_ONCE = 1000


@dataclass(frozen=True)
class S3Uri:
    """A place in S3."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> S3Uri:
        """Return the place that an `s3://` address names.

        Raises:
            LaunchError: It names none.
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
    """Objects of one account.

    Args:
        s3: A client.
    """

    def __init__(self, s3: Any):
        self._s3 = s3

    def put_item(self, item: InputArtifact, bucket: str) -> S3Uri:
        """Copy an item's files below an address made from their content; what is there stays.

        Returns:
            The prefix to give to a channel; the item stands below it under its own name.
        """
        prefix = S3Uri(bucket, f"uploads/{item.digest[:24]}")
        for file in item.files:
            self.put_file(file, prefix / item.place_of(file))
        return S3Uri(prefix.bucket, prefix.key + "/")

    def put_file(self, file: Path, to: S3Uri, tags: dict[str, str] | None = None) -> None:
        """Copy a file unless an object of its size is there."""
        if self._size(to) == file.stat().st_size and tags is None:
            return
        extra = {"Tagging": urlencode(tags)} if tags else None
        with explained(f"copying {file} to {to}"):
            self._s3.upload_file(str(file), to.bucket, to.key, ExtraArgs=extra)

    def put_text(self, text: str, to: S3Uri) -> None:
        """Write a small object."""
        with explained(f"writing {to}"):
            self._s3.put_object(Bucket=to.bucket, Key=to.key, Body=text.encode())

    def get_text(self, address: S3Uri) -> str | None:
        """Return a small object, or None where there is none."""
        with explained(f"reading {address}"):
            try:
                found = self._s3.get_object(Bucket=address.bucket, Key=address.key)
            except ClientError as error:
                if code_of(error) in ("NoSuchKey", "404"):
                    return None
                raise
            return str(found["Body"].read().decode("utf-8", errors="replace"))

    def get_file(self, address: S3Uri, to: Path) -> bool:
        """Copy an object here, whole or not at all; False where there is none."""
        if self._size(address) is None:
            return False
        to.parent.mkdir(parents=True, exist_ok=True)
        building = to.with_name(f".{to.name}.fetching")
        with explained(f"fetching {address}"):
            try:
                self._s3.download_file(address.bucket, address.key, str(building))
                building.replace(to)
            finally:
                building.unlink(missing_ok=True)
        return True

    def list(self, prefix: S3Uri) -> Iterator[tuple[S3Uri, int]]:
        """Yield every object below a prefix, with its bytes."""
        with explained(f"listing {prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=prefix.bucket, Prefix=prefix.key
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    yield S3Uri(prefix.bucket, found["Key"]), int(found["Size"])

    def size_bytes(self, prefix: S3Uri) -> int:
        """Return the bytes below a prefix."""
        return sum(size for _, size in self.list(prefix))

    def refuse_empty(self, key: str, prefix: S3Uri) -> None:
        """Raise unless a prefix that a job names holds something.

        Raises:
            LaunchError: It does not, or cannot be seen.
        """
        if not any(size for _, size in self.list(prefix)):
            raise LaunchError(
                f"{key}: {prefix} holds nothing. SageMaker reads what begins with this address: "
                f"check the spelling with `aws s3 ls {prefix}`"
            )

    def delete(self, prefix: S3Uri) -> int:
        """Delete everything below a prefix and return how many objects went."""
        keys = [address.key for address, _ in self.list(prefix)]
        for start in range(0, len(keys), _DELETE_AT_ONCE):
            part = [{"Key": key} for key in keys[start : start + _DELETE_AT_ONCE]]
            with explained(f"deleting {prefix}"):
                answer = self._s3.delete_objects(
                    Bucket=prefix.bucket, Delete={"Objects": part, "Quiet": True}
                )
            if answer.get("Errors"):
                first = answer["Errors"][0]
                raise LaunchError(f"{first['Key']} was not deleted: {first.get('Message', '')}")
        return len(keys)

    def _size(self, address: S3Uri) -> int | None:
        with explained(f"looking at {address}"):
            try:
                found = self._s3.head_object(Bucket=address.bucket, Key=address.key)
            except ClientError as error:
                if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise
        return int(found["ContentLength"])
