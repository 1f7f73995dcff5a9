"""The folders that SageMaker gives a training container: `/opt/ml` and what is in it.

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
_LEAST_FREE_BYTES = 16 * 2**20
_TERMINATION_LOG = Path("/dev/termination-log")
"""Where Kubernetes looks for a container's last words."""


@dataclass(frozen=True)
class MlFolder:
    """The folder, at `/opt/ml` unless `SAGEMAKER_BASE_DIR` names another."""

    root: Path

    @classmethod
    def here(cls) -> MlFolder:
        """Return the one of this container."""
        return cls(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")))

    @property
    def is_there(self) -> bool:
        """Whether SageMaker, or somebody in its place, has laid it out."""
        return (self.root / "input" / "config").is_dir()

    @property
    def model(self) -> Path:
        """What is uploaded as `model.tar.gz`."""
        return self.root / "model"

    @property
    def output(self) -> Path:
        """Holds `failure`, and `data`, which is uploaded too."""
        return self.root / "output"

    @property
    def checkpoints(self) -> Path:
        """Copied to S3 all the while, and back at a restart, where the job asked for it."""
        return self.root / "checkpoints"

    def configuration(self, name: str) -> dict[str, Any]:
        """Return one of the JSON files that describe the job; empty where there is none.

        Raises:
            StartError: It is no JSON object.
        """
        path = self.root / "input" / "config" / f"{name}.json"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StartError(f"{path} cannot be read: {error.strerror or error}") from error
        try:
            found = json.loads(text)
        except ValueError as error:
            raise StartError(f"{path} is not JSON: {error}", JOB_INVALID) from None
        if not isinstance(found, dict):
            raise StartError(f"{path} is not a JSON object but {text[:40]!r}", JOB_INVALID)
        return found

    def channels(self) -> dict[str, Path]:
        """Return the folders of the job's input channels, by name."""
        data = self.root / "input" / "data"
        names = set(self.configuration("inputdataconfig"))
        if data.is_dir():
            names |= {path.name for path in data.iterdir() if path.is_dir()}
        return {name: data / name for name in sorted(names)}

    def check_writable(self) -> None:
        """Refuse to train for hours what could then not be kept.

        Raises:
            StartError: Names the folder that cannot be written.
        """
        for folder, use in ((self.model, "the trained model"), (self.output, "the failure file")):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder) as file:
                    file.write(b"0" * 4096)
                    file.flush()
            except OSError as error:
                raise StartError(
                    f"{folder} cannot be written, and {use} goes there: "
                    f"{error.strerror or error}. Mount it writable, with room"
                ) from error
        free = shutil.disk_usage(self.model).free
        if free < _LEAST_FREE_BYTES:
            raise StartError(
                f"{self.model} has {free / 2**20:.1f} MiB free: no model would fit. Give the job a "
                f"larger volume (VolumeSizeInGB)"
            )
        with suppress(OSError):
            self._reserve.write_bytes(b"0" * _RESERVE_BYTES)

    @property
    def _reserve(self) -> Path:
        """Room for the failure file, for when nothing else has any."""
        return self.output / ".reserve"

    def free_reserve(self) -> None:
        """Give the room back."""
        with suppress(OSError):
            self._reserve.unlink()

    def say_why(self, message: str) -> None:
        """Leave the reason of a failure where the service that runs the container reads it."""
        self.free_reserve()
        places = [_TERMINATION_LOG] if _TERMINATION_LOG.is_file() else []
        if self.is_there:
            places.append(self.output / "failure")
        for place in places:
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(message + "\n", encoding="utf-8")
            except OSError as error:
                sys.stderr.write(f"{place} could not be written: {error.strerror or error}\n")

    def keep_model(self, trained: Path) -> None:
        """Copy a trained model to where it is uploaded from.

        Raises:
            StartError: It does not fit.
        """
        self.free_reserve()
        try:
            shutil.copytree(trained, self.model, dirs_exist_ok=True, copy_function=_link_or_copy)
        except (OSError, shutil.Error) as error:
            raise StartError(
                f"the trained model could not be copied to {self.model}: "
                f"{getattr(error, 'strerror', None) or error}. It is whole in {trained}"
            ) from error


def _link_or_copy(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
