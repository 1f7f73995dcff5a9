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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from preparation.config.duplicates import DuplicatesStep
from preparation.config.job import PreparationJob
from preparation.config.load import step_index
from preparation.documents import locate_source
from preparation.executors.local import WORKERS_LOCK, LocalTasks, completed
from preparation.executors.nodes import ALONE, Barrier, Node
from preparation.steps.step import StepSection
from preparation.storage import is_finished, is_s3, open_folder, point_latest, publish
from preparation.work_units import WorkUnit, divide
from training.data.readers.sources import distinct
from training.errors import DataError, RunError, TemperError

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of a pass, the number of finished units, and of all."""
_MIB = 1 << 20
_BUFFERED_RECORDS = 1_000
"""Signatures read at a time from each file; datatrove's default of 5 reads a few bytes."""


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
        return f"{self.job.prepare.output}/{self.job.name}/.building-{self.digest}"


Plan = PreparationPlan
"""Short name within this package; `planning.Plan` is that of a training job."""


def plan(job: PreparationJob, unit_bytes: int | None = None) -> Plan:
    """Locate the sources of a job and divide them into units.

    Args:
        job: The job.
        unit_bytes: Size of a unit; `prepare.unit_mib` if not set.

    Raises:
        DataError: A source cannot be read.
    """
    sources = job.prepare.sources
    located = distinct([locate_source(source) for source in sources])
    labels = [resolved.label for resolved in located]
    size = unit_bytes or job.prepare.unit_mib * _MIB
    units, content = divide(located, sources, size)
    return Plan(job, units, labels, _digest(job, content))


def _digest(job: PreparationJob, content: str) -> str:
    """Return a digest of everything that the result depends on; workers and place are not."""
    # Synthesized rows are a source; other limits or prices that wrote the same rows are no change.
    excluded: dict[str, Any] = {"prepare": {"workers", "output"}, "synthesize": True}
    recipe = job.model_dump(mode="json", exclude=excluded)
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


def build(planned: Plan, progress: Progress, *, node: Node = ALONE, fresh: bool = False) -> str:
    """Build the folder of a preparation, or resume one that was stopped.

    Args:
        planned: The preparation.
        progress: Called with the finished and all tasks of each pass.
        node: Place of this process among those that share the preparation.
        fresh: Discard what an earlier run has built.

    Returns:
        The finished folder.

    Raises:
        TemperError: A source cannot be used, or another process or node stands in the way.
        RunError: The folder cannot be written.
    """
    if is_finished(planned.folder) and not fresh:
        if node.index == 0:
            point_latest(planned.folder)
        return planned.folder
    folder = open_folder(planned.building)
    barrier = Barrier(node, folder)
    from preparation.report.files import write_report_files

    try:
        with _locked(planned.building, node, fresh):
            _run_passes(planned, folder, progress, node)
            if node.index == 0:
                write_report_files(planned, folder)
                publish(planned.building, planned.folder)
                point_latest(planned.folder)
        barrier.wait(partial(is_finished, planned.folder))
    except TemperError as error:
        barrier.fail(error)
        raise
    except OSError as error:
        barrier.fail(error)
        raise RunError(
            f"{planned.building}: {error.strerror or error}. The same command resumes the "
            "preparation"
        ) from None
    return planned.folder


@contextmanager
def _locked(building: str, node: Node, fresh: bool) -> Iterator[None]:
    """Hold the lock of a preparation, after the workers of an earlier run have ended.

    Several nodes are started together by a scheduler, which does not run the same job twice; and
    S3 has no locks.

    Raises:
        RunError: Another process holds it.
    """
    if is_s3(building) or node.count > 1:
        if fresh:
            raise RunError("--fresh needs one node and a folder on a disk; delete the folder")
        yield
        return
    path = Path(building)
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path / "run.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RunError(f"{building}: another process is running this preparation") from None
    try:
        workers = os.open(path / WORKERS_LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(workers, fcntl.LOCK_EX)
        os.close(workers)
        for child in path.iterdir() if fresh else ():
            if child.is_dir():
                shutil.rmtree(child)
        yield
    finally:
        os.close(descriptor)


def _run_passes(planned: Plan, folder: Any, progress: Progress, node: Node) -> None:
    """Run the passes in order; each waits for all tasks of the one before, on all nodes."""
    workers = planned.job.prepare.workers or len(os.sched_getaffinity(0))
    workers = min(workers, len(planned.units))
    lock = None if is_s3(planned.building) else Path(planned.building).resolve()
    barrier = Barrier(node, folder)
    with LocalTasks(workers, lock) as local:
        for name, pipeline, tasks in passes(planned, folder):
            logs = open_folder(f"{planned.building}/tasks/{name}")
            local.run(pipeline, tasks, node.tasks(tasks), logs, partial(progress, name))
            barrier.wait(partial(_is_over, planned, logs, tasks))
            if node.index and is_finished(planned.folder):
                return  # The first node has published the result, and removed all marks.
            if name == "examine":
                _check_rows(planned, folder)


def _is_over(planned: Plan, logs: Any, tasks: int) -> bool:
    return len(completed(logs)) >= tasks or is_finished(planned.folder)


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
    unreadable: Counter[str] = Counter()
    for sources in account["affected"].get("read", {}).values():
        unreadable.update(sources)
    for label in planned.labels:
        rows = account["rows_read"].get(label, 0)
        if rows and unreadable[f"source: {label}"] == rows:
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
