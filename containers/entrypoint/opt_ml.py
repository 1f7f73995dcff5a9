"""Folder that SageMaker mounts into a training container, `/opt/ml`.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.exit_codes import JOB_INVALID
from containers.entrypoint.errors import StartError

_RESERVE_BYTES = 64 * 1024
_MIN_FREE_BYTES = 16 * 2**20
_TERMINATION_LOG = Path("/dev/termination-log")
"""File from which Kubernetes reads a container's termination message."""


@dataclass(frozen=True)
class MlFolder:
    """The folder `/opt/ml`, or the one that `SAGEMAKER_BASE_DIR` names."""

    root: Path

    @classmethod
    def current(cls) -> MlFolder:
        """Return the folder of this container."""
        return cls(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")))

    @property
    def exists(self) -> bool:
        """True on SageMaker (or its emulation), which creates the folder."""
        return (self.root / "input" / "config").is_dir()

    @property
    def model(self) -> Path:
        """Folder that is uploaded as `model.tar.gz`."""
        return self.root / "model"

    @property
    def output(self) -> Path:
        """Folder of the file `failure` and of `data`, which is uploaded, too."""
        return self.root / "output"

    @property
    def checkpoints(self) -> Path:
        """Folder that is synchronized with S3 if the job requests it, and restored on restart."""
        return self.root / "checkpoints"

    def configuration(self, name: str) -> dict[str, Any]:
        """Return one of the JSON files that describe the job; empty if it does not exist.

        Raises:
            StartError: The file cannot be read, or is not a JSON object.
        """
        path = self.root / "input" / "config" / f"{name}.json"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StartError(f"{path} cannot be read: {error.strerror or error}") from error
        try:
            content = json.loads(text)
        except ValueError as error:
            raise StartError(f"{path} is not JSON: {error}", JOB_INVALID) from None
        if not isinstance(content, dict):
            raise StartError(f"{path} is not a JSON object but {text[:40]!r}", JOB_INVALID)
        return content

    def channels(self) -> dict[str, Path]:
        """Return the folders of the job's input channels, by name."""
        data = self.root / "input" / "data"
        names = set(self.configuration("inputdataconfig"))
        if data.is_dir():
            names |= {path.name for path in data.iterdir() if path.is_dir()}
        return {name: data / name for name in sorted(names)}

    def check_writable(self) -> None:
        """Check before training that the results can be saved, and reserve disk for a failure.

        Raises:
            StartError: A folder cannot be written, or the disk is nearly full.
        """
        for folder, content in (
            (self.model, "the trained model"),
            (self.output, "the failure file"),
        ):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                # A write is needed: an empty file can be created on a full disk.
                with tempfile.TemporaryFile(dir=folder) as file:
                    file.write(b"0" * 4096)
                    file.flush()
            except OSError as error:
                raise StartError(
                    f"{folder} cannot be written, and {content} goes there: "
                    f"{error.strerror or error}. Mount it writable, and free space on its disk"
                ) from error
        free = shutil.disk_usage(self.model).free
        if free < _MIN_FREE_BYTES:
            raise StartError(
                f"{self.model} has {free / 2**20:.1f} MiB free: no model would fit. Give the job a "
                f"larger volume (VolumeSizeInGB)"
            )
        with suppress(OSError):
            self._reserve.write_bytes(b"0" * _RESERVE_BYTES)

    @property
    def _reserve(self) -> Path:
        """Placeholder file whose deletion makes room for the failure file on a full disk."""
        return self.output / ".reserve"

    def free_reserve(self) -> None:
        """Delete the placeholder file."""
        with suppress(OSError):
            self._reserve.unlink()

    def write_failure(self, message: str) -> None:
        """Write the reason of a failure to the files that SageMaker and Kubernetes read."""
        self.free_reserve()
        paths = [_TERMINATION_LOG] if _TERMINATION_LOG.is_file() else []
        if self.exists:
            paths.append(self.output / "failure")
        for path in paths:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(message + "\n", encoding="utf-8")
            except OSError as error:
                sys.stderr.write(f"{path} could not be written: {error.strerror or error}\n")

    def copy_model(self, trained: Path, place: str = "") -> None:
        """Copy a trained model into the folder that is uploaded; hard links where possible.

        Args:
            trained: Folder of the model.
            place: Folder in the upload; its root if empty.

        Raises:
            StartError: It cannot be written, for example because the disk is full.
        """
        self._copy(trained, self.model / place, "the trained model")

    def copy_output(self, folder: Path, place: str) -> None:
        """Copy a folder into the output that is uploaded next to the model, also of failed jobs.

        SageMaker uploads both, whether the job succeeded or failed
        (https://github.com/aws/sagemaker-python-sdk/pull/746).

        Args:
            folder: The folder.
            place: Folder in the uploaded output.

        Raises:
            StartError: It cannot be written, for example because the disk is full.
        """
        self._copy(folder, self.output / "data" / place, "the reports")

    def _copy(self, source: Path, target: Path, content: str) -> None:
        self.free_reserve()
        try:
            shutil.copytree(source, target, dirs_exist_ok=True, copy_function=_link_or_copy)
        except (OSError, shutil.Error) as error:
            raise StartError(
                f"{content} could not be copied to {target}: "
                f"{getattr(error, 'strerror', None) or error}. It is complete in {source}"
            ) from error


def _link_or_copy(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
