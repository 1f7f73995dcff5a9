"""Folder `/opt/ml` of a SageMaker processing job, which differs from that of a training job.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.exit_codes import JOB_INVALID
from containers.entrypoint.errors import StartError

JOB_INPUT = "job"
_MESSAGE_BYTES = 1024
_CUT = " …"


@dataclass(frozen=True)
class ProcessingFolder:
    """The folder `/opt/ml` of a processing job, or the one that `SAGEMAKER_BASE_DIR` names."""

    root: Path

    @classmethod
    def current(cls) -> ProcessingFolder:
        """Return the folder of this container."""
        return cls(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")))

    @property
    def exists(self) -> bool:
        """True in a processing job: SageMaker writes the list of its hosts."""
        return (self.root / "config" / "resourceconfig.json").is_file()

    @property
    def is_first(self) -> bool:
        """True on the first node, also outside a processing job.

        Raises:
            StartError: The list of hosts is not a JSON object.
        """
        hosts = self._read("resourceconfig")
        return not hosts or hosts.get("current_host") == min(hosts.get("hosts") or [""])

    def request(self) -> dict[str, Any]:
        """Return the request that created the job; empty outside a processing job.

        Raises:
            StartError: The file is not a JSON object.
        """
        return self._read("processingjobconfig")

    def _read(self, name: str) -> dict[str, Any]:
        path = self.root / "config" / f"{name}.json"
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StartError(f"{path} cannot be read: {error}") from None
        if not isinstance(content, dict):
            raise StartError(f"{path} is not a JSON object")
        return content

    def region(self) -> str:
        """Return the Region of the job, from its ARN; empty outside a processing job."""
        parts = str(self.request().get("ProcessingJobArn", "")).split(":")
        return parts[3] if len(parts) > 3 else ""

    def job_file(self) -> Path:
        """Return the one YAML file of the input `job`.

        Raises:
            StartError: There is none, or several.
        """
        folder = self.root / "processing" / "input" / JOB_INPUT
        files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
        if len(files) == 1:
            return files[0]
        if files:
            names = ", ".join(path.name for path in files)
            raise StartError(f"{folder} must hold one job file, and has {names}", JOB_INVALID)
        raise StartError(
            f"no job was given. Name its file (prepare JOB, or TEMPER_JOB), or let a processing "
            f"input put it into {folder}",
            JOB_INVALID,
        )

    def write_message(self, text: str) -> None:
        """Write the text that `DescribeProcessingJob` returns as `ExitMessage`, at most 1 KB.

        The messages of all containers are joined and cut to 1 KB, so a node that has nothing new
        to say writes none. A text that is not UTF-8 would fail the job.
        https://docs.aws.amazon.com/sagemaker/latest/dg/byoc-metadata.html

        Args:
            text: The text, which must hold no sensitive data.
        """
        if not self.exists or not text:
            return
        path = self.root / "output" / "message"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(shorten(text), encoding="utf-8")
        except OSError as error:
            sys.stderr.write(f"{path} could not be written: {error.strerror or error}\n")


def shorten(text: str, limit_bytes: int = _MESSAGE_BYTES) -> str:
    """Return the beginning of a text that has so many bytes of UTF-8 at most."""
    encoded = text.encode("utf-8", errors="replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode()
    return encoded[: limit_bytes - len(_CUT.encode())].decode(errors="ignore") + _CUT
