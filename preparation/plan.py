"""Plan of a preparation: its sources, located and divided, and the folder that it builds.

The folder is named by a digest of the sources' content, the recipe and Temper's code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from preparation.config.job import PreparationJob
from preparation.documents import locate_source
from preparation.relocation import without_folders
from preparation.steps.step import StepSection
from preparation.work_units import WorkUnit, divide
from training.data.readers.sources import distinct

BUILDING = ".building-"
"""Beginning of the name of a folder while it is built."""
_MIB = 1 << 20


@dataclass(frozen=True)
class PreparationPlan:
    """Preparation whose sources were located and divided.

    Attributes:
        job: The job.
        units: Units of work.
        labels: Label of each source.
        digest: Name of the folder that it builds.
    """

    job: PreparationJob
    units: list[WorkUnit]
    labels: list[str]
    digest: str

    @property
    def folder(self) -> str:
        """Folder of the finished data set."""
        return f"{self.job.prepare.output}/{self.job.name}/{self.digest}"

    @property
    def building(self) -> str:
        """Folder while it is built."""
        return f"{self.job.prepare.output}/{self.job.name}/{BUILDING}{self.digest}"


def plan(
    job: PreparationJob,
    unit_bytes: int | None = None,
    *,
    copies: Mapping[str, Path] = MappingProxyType({}),
) -> PreparationPlan:
    """Locate the sources of a job and divide them into units.

    Args:
        job: The job.
        unit_bytes: Size of a unit; `prepare.unit_mib` if not set.
        copies: Copies of the sources in S3 on this machine, by their addresses.

    Raises:
        DataError: A source cannot be read.
    """
    sources = job.prepare.sources
    located = distinct([locate_source(one, copies.get(one.source)) for one in sources])
    labels = [resolved.label for resolved in located]
    size = unit_bytes or job.prepare.unit_mib * _MIB
    units, content = divide(located, sources, size)
    return PreparationPlan(job, units, labels, _digest(job, content))


def _digest(job: PreparationJob, content: str) -> str:
    """Return a digest of everything that the result depends on; workers and place are not."""
    # Synthesized rows are a source; other limits or prices that wrote the same rows are no change.
    excluded: dict[str, Any] = {"prepare": {"workers", "output", "copies"}, "synthesize": True}
    recipe = without_folders(job).model_dump(mode="json", exclude=excluded)
    used = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for step in job.prepare.steps
        if isinstance(step, StepSection)
        for path in step.files().values()
    ]
    text = json.dumps([content, recipe, used, code_version()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_version() -> str:
    """Return a digest of the code that reads and prepares rows."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    parts = ("readers", "schema", "contamination")
    for part in ("preparation", *(f"training/data/{name}" for name in parts)):
        for path in sorted((root / part).rglob("*")):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()
