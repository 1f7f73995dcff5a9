"""S3 operations of the service: download of data, synchronization of checkpoints, upload."""

from __future__ import annotations

import tarfile
import threading
from pathlib import Path
from typing import Any

from launch.aws.s3 import S3Uri
from launch.downloads import path_within


class EmulatedBucket:
    """S3 operations of the training service.

    Args:
        s3: boto3 client of `s3`.
    """

    def __init__(self, s3: Any):
        self.s3 = s3

    def download(self, prefix: S3Uri, to: Path) -> int:
        """Download every object whose key begins with a prefix, as channels are filled.

        File names keep the part of the key after the last `/` of the prefix: the prefix of a
        single object yields that file, a prefix that ends in `/` everything below it.

        Returns:
            The number of files.
        """
        base = prefix.key.rpartition("/")[0]
        count = 0
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=prefix.bucket, Prefix=prefix.key
        )
        for page in pages:
            for entry in page.get("Contents", ()):
                name = entry["Key"].removeprefix(base).lstrip("/")
                if not name or name.endswith("/"):
                    continue
                file = path_within(to, name, f"s3://{prefix.bucket}/{entry['Key']}")
                file.parent.mkdir(parents=True, exist_ok=True)
                self.s3.download_file(prefix.bucket, entry["Key"], str(file))
                count += 1
        return count

    def upload_packed(self, folder: Path, to: S3Uri, kms_key: str | None) -> bool:
        """Upload a folder as one `.tar.gz`, and return False if it is empty.

        Args:
            folder: Folder to pack.
            to: Address of the archive.
            kms_key: KMS key that encrypts the object; None for the bucket's default.
        """
        if not any(folder.iterdir()):
            return False
        packed = folder.with_name(f"{folder.name}.tar.gz")
        with tarfile.open(packed, "w:gz") as archive:
            for part in sorted(folder.iterdir()):
                archive.add(part, part.name)
        self._upload(packed, to, kms_key)
        packed.unlink()
        return True

    def upload_folder(self, folder: Path, to: S3Uri, kms_key: str | None) -> bool:
        """Upload the files of a folder below a prefix, and return False if it is empty.

        Args:
            folder: Folder to upload.
            to: Prefix of the objects.
            kms_key: KMS key that encrypts the objects; None for the bucket's default.
        """
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for file in files:
            self._upload(file, to / file.relative_to(folder).as_posix(), kms_key)
        return bool(files)

    def read(self, uri: S3Uri) -> bytes:
        """Return the content of an object."""
        content: bytes = self.s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read()
        return content

    def write(self, content: bytes, to: S3Uri, kms_key: str | None) -> None:
        """Write an object.

        Args:
            content: Its content.
            to: Its address.
            kms_key: KMS key that encrypts it; None for the bucket's default.
        """
        encryption = _encryption(kms_key)
        self.s3.put_object(Bucket=to.bucket, Key=to.key, Body=content, **encryption)

    def _upload(self, file: Path, to: S3Uri, kms_key: str | None) -> None:
        self.s3.upload_file(str(file), to.bucket, to.key, ExtraArgs=_encryption(kms_key))


def _encryption(kms_key: str | None) -> dict[str, str]:
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}


class CheckpointSync:
    """Thread that mirrors a folder to an S3 prefix: written files are uploaded, deleted ones go.

    S3 has neither links nor empty folders, so these are missing after a restart.

    Args:
        bucket: S3 operations of the service.
        folder: Folder of checkpoints.
        prefix: Prefix that ends in `/`.
        interval_s: Seconds between two scans of the folder.
    """

    def __init__(self, bucket: EmulatedBucket, folder: Path, prefix: S3Uri, interval_s: float):
        self._bucket, self._folder, self._prefix = bucket, folder, prefix
        self._interval_s = interval_s
        self._uploaded: dict[str, tuple[int, int]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the thread; the existing files came from S3 and count as uploaded."""
        self._uploaded = self._scan()
        self._thread.start()

    def stop(self, *, final_sync: bool) -> None:
        """Stop the thread; with `final_sync` S3 has every file afterwards."""
        self._stopped.set()
        self._thread.join()
        if final_sync:
            self._sync()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self._sync()

    def _sync(self) -> None:
        current = self._scan()
        for name, stamp in sorted(current.items()):
            if self._uploaded.get(name) != stamp:
                try:
                    self._bucket.s3.upload_file(
                        str(self._folder / name), self._prefix.bucket, self._prefix.key + name
                    )
                except FileNotFoundError:
                    continue  # deleted since the scan
                self._uploaded[name] = stamp
        for name in self._uploaded.keys() - current.keys():
            self._bucket.s3.delete_object(Bucket=self._prefix.bucket, Key=self._prefix.key + name)
            del self._uploaded[name]

    def _scan(self) -> dict[str, tuple[int, int]]:
        """Return modification time and size of every file in the folder, by relative path."""
        stamps = {}
        for path in self._folder.rglob("*"):
            try:
                if path.is_symlink() or not path.is_file():
                    continue
                stat = path.stat()
            except OSError:
                continue
            stamps[path.relative_to(self._folder).as_posix()] = (stat.st_mtime_ns, stat.st_size)
        return stamps
