"""Files in a bucket under their digests, written once and compared by the checksums of S3."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from launch.aws.s3 import S3Uri
from launch.aws.session import explain_aws_errors
from registry.errors import RegistryError

_PART_BYTES = 64 << 20
_MAX_PARTS = 10_000
_THREADS = 4
_NOT_FOUND = ("NoSuchKey", "NotFound", "404")
# Another upload of the same key has ended, or is about to end.
_RACE = ("PreconditionFailed", "ConditionalRequestConflict")


@dataclass(frozen=True)
class S3Files:
    """Files in a bucket, which are encrypted with a KMS key and never overwritten.

    S3 computes the SHA-256 of what it stores. The checksum of an object in parts is the SHA-256 of
    those of its parts, so that it depends on the size of a part.

    Attributes:
        s3: boto3 client of `s3`.
        bucket: Name of the bucket.
        kms_key: ARN of the key.
        part_bytes: Size from which a file is sent in parts, and smallest size of a part.
    """

    s3: Any
    bucket: str
    kms_key: str
    part_bytes: int = _PART_BYTES

    def put(self, file: Path, key: str, sha256: str) -> str:
        """Upload a file unless it exists, and return its checksum in S3.

        Args:
            file: File on this machine.
            key: Key of the object.
            sha256: Digest of the file.

        Raises:
            RegistryError: The file or the object was changed.
            LaunchError: S3 refused.
        """
        size = file.stat().st_size
        part_bytes = max(self.part_bytes, -(-size // _MAX_PARTS))
        whole, parts = _digests(file, part_bytes)
        if whole != sha256:
            raise RegistryError(
                f"{file} was changed: its SHA-256 is {whole}, not {sha256}. Register the run again"
            )
        expected = _checksum(parts)
        if not self._check(key, expected):
            place = S3Uri(self.bucket, key)
            with explain_aws_errors(f"copying {file} to {place}", ignore=_RACE):
                if len(parts) > 1:
                    self._send_parts(file, key, part_bytes, len(parts))
                else:
                    self._send(file, key)
            if not self._check(key, expected):
                raise RegistryError(
                    f"{S3Uri(self.bucket, key)} is being written by another upload. Run it again"
                )
        return expected

    def checksum(self, key: str) -> str | None:
        """Return the SHA-256 checksum that S3 computed, without the number of parts.

        Returns:
            The checksum; empty if the object has none; None if it does not exist.
        """
        with explain_aws_errors(f"checking {S3Uri(self.bucket, key)}", ignore=_NOT_FOUND):
            head = self.s3.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
            return str(head.get("ChecksumSHA256", "")).partition("-")[0]
        return None

    def _check(self, key: str, expected: str) -> bool:
        """Return whether an object exists.

        Raises:
            RegistryError: It has another checksum.
        """
        actual = self.checksum(key)
        if actual not in (None, expected):
            raise RegistryError(
                f"{S3Uri(self.bucket, key)} was changed: its checksum is {actual or 'missing'}, "
                f"not {expected}. Restore its first version, then push again"
            )
        return actual is not None

    @property
    def _encryption(self) -> dict[str, str]:
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key}

    def _send(self, file: Path, key: str) -> None:
        with file.open("rb") as body:
            self.s3.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=body,
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                **self._encryption,
            )

    def _send_parts(self, file: Path, key: str, part_bytes: int, count: int) -> None:
        place = {"Bucket": self.bucket, "Key": key}
        upload = self.s3.create_multipart_upload(
            **place, ChecksumAlgorithm="SHA256", **self._encryption
        )["UploadId"]

        def send(number: int) -> Mapping[str, Any]:
            with file.open("rb") as source:
                source.seek((number - 1) * part_bytes)
                part = self.s3.upload_part(
                    **place,
                    UploadId=upload,
                    PartNumber=number,
                    Body=source.read(part_bytes),
                    ChecksumAlgorithm="SHA256",
                )
            names = ("ETag", "ChecksumSHA256")
            return {"PartNumber": number, **{name: part[name] for name in names}}

        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                parts = list(pool.map(send, range(1, count + 1)))
            self.s3.complete_multipart_upload(
                **place, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except BaseException:
            with suppress(ClientError):
                self.s3.abort_multipart_upload(**place, UploadId=upload)
            raise


def _digests(file: Path, part_bytes: int) -> tuple[str, list[bytes]]:
    """Return the SHA-256 of a file, and the SHA-256 of each of its parts."""
    whole, parts = hashlib.sha256(), []
    with file.open("rb") as source:
        while chunk := source.read(part_bytes):
            whole.update(chunk)
            parts.append(hashlib.sha256(chunk).digest())
    return whole.hexdigest(), parts or [hashlib.sha256().digest()]


def _checksum(parts: list[bytes]) -> str:
    """Return the checksum of an object as S3 computes it."""
    digest = parts[0] if len(parts) == 1 else hashlib.sha256(b"".join(parts)).digest()
    return b64encode(digest).decode()
