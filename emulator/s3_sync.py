"""S3 from the service's side: data to a machine, checkpoints in step, models back."""

from __future__ import annotations

import tarfile
import threading
from pathlib import Path
from typing import Any

from launch.aws.s3 import S3Uri


class EmulatedBucket:
    """What the training service does with S3.

    Args:
        s3: A client.
    """

    def __init__(self, s3: Any):
        self.s3 = s3

    def download(self, prefix: S3Uri, to: Path) -> int:
        """Copy all objects that begin with a prefix, as a channel is filled; return how many.

        What stands after the last `/` of the prefix begins the file's name: the prefix of a single
        object gives that file, a prefix that ends in `/` all below it.
        """
        base = prefix.key.rpartition("/")[0]
        count = 0
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=prefix.bucket, Prefix=prefix.key
        )
        for page in pages:
            for found in page.get("Contents", ()):
                name = found["Key"].removeprefix(base).lstrip("/")
                if not name or name.endswith("/"):
                    continue
                file = to / name
                file.parent.mkdir(parents=True, exist_ok=True)
                self.s3.download_file(prefix.bucket, found["Key"], str(file))
                count += 1
        return count

    def upload_packed(self, folder: Path, to: S3Uri, key: str | None) -> bool:
        """Upload a folder as one `.tar.gz`; False where there is nothing in it."""
        if not any(folder.iterdir()):
            return False
        packed = folder.with_name(f"{folder.name}.tar.gz")
        with tarfile.open(packed, "w:gz") as archive:
            for part in sorted(folder.iterdir()):
                archive.add(part, part.name)
        extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}
        self.s3.upload_file(str(packed), to.bucket, to.key, ExtraArgs=extra)
        packed.unlink()
        return True


class CheckpointSync:
    """Keeps a prefix in step with a folder: what is written comes, what is deleted goes.

    Links and empty folders have no place in S3; after a restart they are not there.

    Args:
        bucket: Where.
        folder: Of checkpoints.
        prefix: Ends in `/`.
        every_s: How often the folder is looked at.
    """

    def __init__(self, bucket: EmulatedBucket, folder: Path, prefix: S3Uri, every_s: float):
        self._bucket, self._folder, self._prefix = bucket, folder, prefix
        self._every_s = every_s
        self._known: dict[str, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Take what is there as known, and begin to look."""
        self._known = self._seen()
        self._thread.start()

    def stop(self, *, last_look: bool) -> None:
        """End; with `last_look` everything written so far is in S3 afterwards."""
        self._ended.set()
        self._thread.join()
        if last_look:
            self._step()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._step()

    def _step(self) -> None:
        now = self._seen()
        for name, mark in sorted(now.items()):
            if self._known.get(name) != mark:
                try:
                    self._bucket.s3.upload_file(
                        str(self._folder / name), self._prefix.bucket, self._prefix.key + name
                    )
                except FileNotFoundError:
                    continue
                self._known[name] = mark
        for name in self._known.keys() - now.keys():
            self._bucket.s3.delete_object(Bucket=self._prefix.bucket, Key=self._prefix.key + name)
            del self._known[name]

    def _seen(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self._folder.rglob("*"):
            try:
                if path.is_symlink() or not path.is_file():
                    continue
                state = path.stat()
            except OSError:
                continue
            found[path.relative_to(self._folder).as_posix()] = (state.st_mtime_ns, state.st_size)
        return found
