"""Preparation of a data set: its passes in order, and the folder that they build.

The folder is named by a digest of the sources' content, the recipe and Temper's code. It is built
under another name and renamed at the end, so that a folder of its name is always complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from preparation.config.duplicates import DuplicatesStep
from preparation.config.job import PreparationJob
from preparation.config.load import step_index
from preparation.executors.local import WORKERS_LOCK, LocalTasks
from preparation.passes.building import RESULT
from preparation.steps.step import StepSection
from preparation.work_units import WorkUnit, divide
from training.data.readers.sources import distinct, locate
from training.errors import DataError, RunError

LATEST = "latest"
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of a pass, the number of finished units, and of all."""
_MIB = 1 << 20
_BUFFERED_RECORDS = 1_000
"""Signatures read at a time from each file; datatrove's default of 5 reads a few bytes."""


@dataclass(frozen=True)
class Plan:
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
    def folder(self) -> Path:
        """Folder of the finished data set."""
        return Path(self.job.prepare.output) / self.job.name / self.digest

    @property
    def building(self) -> Path:
        """Folder while it is built."""
        return self.folder.with_name(f".building-{self.digest}")


def plan(job: PreparationJob, unit_bytes: int | None = None) -> Plan:
    """Locate the sources of a job and divide them into units.

    Args:
        job: The job.
        unit_bytes: Size of a unit; `prepare.unit_mib` if not set.

    Raises:
        DataError: A source cannot be read.
    """
    sources = job.prepare.sources
    located = distinct([locate(source) for source in sources])
    labels = [resolved.label for resolved in located]
    size = unit_bytes or job.prepare.unit_mib * _MIB
    units, content = divide(located, sources, size)
    return Plan(job, units, labels, _digest(job, content))


def _digest(job: PreparationJob, content: str) -> str:
    """Return a digest of everything that the result depends on; workers and place are not."""
    recipe = job.model_dump(mode="json", exclude={"prepare": {"workers", "output"}})
    for source in recipe["prepare"]["sources"]:
        source["source"] = Path(source["source"]).name
    used = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for step in job.prepare.steps
        if isinstance(step, StepSection)
        for path in step.files()
    ]
    text = json.dumps([content, recipe, used, code_version()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_version() -> str:
    """Return a digest of the code that reads and prepares rows."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for part in ("preparation", "training/data/readers", "training/data/schema"):
        for path in sorted((root / part).rglob("*")):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()


def build(planned: Plan, progress: Progress, *, fresh: bool = False) -> Path:
    """Build the folder of a preparation, or resume one that was stopped.

    Args:
        planned: The preparation.
        progress: Called with the finished and all tasks of each pass.
        fresh: Discard what an earlier run has built.

    Raises:
        RunError: Another process builds it, or the disk is full.
    """
    if planned.folder.exists() and not fresh:
        _point_latest(planned)
        return planned.folder
    try:
        with _locked(planned.building, fresh):
            _run_passes(planned, progress)
            finish(planned)
    except OSError as error:
        raise RunError(
            f"{planned.building}: {error.strerror or error}. The same command resumes the "
            "preparation"
        ) from None
    _point_latest(planned)
    return planned.folder


@contextmanager
def _locked(building: Path, fresh: bool) -> Iterator[None]:
    """Hold the lock of a preparation, after the workers of an earlier run have ended.

    Raises:
        RunError: Another process holds it.
    """
    building.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(building / "run.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RunError(f"{building}: another process is running this preparation") from None
    try:
        workers = os.open(building / WORKERS_LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(workers, fcntl.LOCK_EX)
        os.close(workers)
        if fresh:
            for path in building.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
        yield
    finally:
        os.close(descriptor)


def _run_passes(planned: Plan, progress: Progress) -> None:
    """Run the passes in order; each waits for all tasks of the one before."""
    from datatrove.io import get_datafolder

    folder = get_datafolder(str(planned.building))
    workers = planned.job.prepare.workers or len(os.sched_getaffinity(0))
    workers = min(workers, len(planned.units))
    with LocalTasks(workers, planned.building.resolve()) as local:
        for name, pipeline, tasks in passes(planned, folder):
            logs = str(planned.building / "tasks" / name)
            local.run(pipeline, tasks, logs, partial(progress, name))
            if name == "examine":
                _check_rows(planned, folder)


def passes(planned: Plan, folder: Any) -> Iterator[tuple[str, Sequence[Any], int]]:
    """Yield the passes: name, pipeline of datatrove's steps, and number of tasks.

    Args:
        planned: The preparation.
        folder: datatrove's `DataFolder` in which it is built.
    """
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster

    from preparation.duplicates.signatures import CLUSTERS, CONFIG, PAIRS, SIGNATURES, RowSignatures
    from preparation.duplicates.verification import VerifyDuplicates
    from preparation.passes.examine_rows import ExamineRows
    from preparation.passes.write_shards import WriteShards

    settings, units = planned.job.prepare, len(planned.units)
    at = step_index(planned.job)
    before = [step for step in settings.steps[:at] if not isinstance(step, DuplicatesStep)]
    after = [step for step in settings.steps[at:] if not isinstance(step, DuplicatesStep)]
    duplicates = next((s for s in settings.steps if isinstance(s, DuplicatesStep)), None)
    examine = ExamineRows(folder, planned.units, settings.sources, planned.labels, before)

    def inside(path: str) -> tuple[str, Any]:
        return (f"{folder.path}/{path}", folder.fs)

    if duplicates is None:
        yield "examine", [examine], units
    else:
        yield "examine", [examine, RowSignatures(inside(SIGNATURES))], units
        buckets = MinhashDedupBuckets(
            inside(SIGNATURES), inside(PAIRS), config=CONFIG, lines_to_buffer=1000
        )
        yield "pairs", [buckets], CONFIG.num_buckets
        clusters = MinhashDedupCluster(
            inside(PAIRS),
            inside(CLUSTERS),
            config=CONFIG,
            save_cluster_id=True,
            lines_to_buffer=1000,
        )
        yield "clusters", [clusters], 1
        yield "verify", [VerifyDuplicates(folder, units, duplicates.similarity)], 1
    yield "write", [WriteShards(folder, duplicates, after, settings.split)], units


def _check_rows(planned: Plan, folder: Any) -> None:
    """Refuse a preparation that has no rows left, or a source of which no row could be read.

    Raises:
        DataError: With the first rejected row or the steps that rejected them all.
    """
    from preparation.passes.building import REJECTED, read_account, read_lines
    from preparation.passes.examine_rows import NAME

    account = read_account(folder, NAME, len(planned.units))
    unreadable = account["affected"].get("read", {}).get("unreadable", {})
    for label in planned.labels:
        rows = account["rows_read"].get(label, 0)
        if rows and unreadable.get(f"source: {label}") == rows:
            first = next(
                (
                    line
                    for rank in range(len(planned.units))
                    for line in read_lines(folder, f"{NAME}/{REJECTED}/{rank:05d}.jsonl")
                    if line["step"] == "read"
                ),
                {"row": label, "detail": "no row"},
            )
            raise DataError(
                f"{label}: none of its {rows} rows can be read. The first one is {first['row']}: "
                f"{first['detail']}"
            )
    if not account["written"]:
        steps = [
            f"{step}: {count} rows ({reason})"
            for step, reasons in account["rejected"].items()
            for reason, count in reasons.items()
        ]
        raise DataError(
            f"{planned.job.name}: no row is left of {sum(account['rows_read'].values())}. Rejected "
            f"by {', '.join(steps) or 'nothing: the sources are empty'}"
        )


def finish(planned: Plan) -> None:
    """Join what the units wrote, write recipe, report and card, and give the folder its name."""
    from preparation.report.files import write_report_files

    write_report_files(planned)
    if planned.folder.exists():
        shutil.rmtree(planned.folder)
    (planned.building / RESULT).rename(planned.folder)
    shutil.rmtree(planned.building)


def _point_latest(planned: Plan) -> None:
    """Let `latest` name the folder; the link is replaced atomically."""
    link = planned.folder.with_name(LATEST)
    temporary = link.with_name(f".{LATEST}-{planned.digest}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(planned.digest)
    temporary.replace(link)
