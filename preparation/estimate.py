"""Estimate of a preparation from a sample of its rows: time, memory and number of rows."""

from __future__ import annotations

import json
import math
import resource
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from preparation.config.duplicates import DuplicatesStep
from preparation.config.job import PreparationJob
from preparation.examples import ExampleTexts
from preparation.ledger import Ledger
from preparation.passes.examine_rows import read_records
from preparation.plan import PreparationPlan, plan
from preparation.row_conversion import RowConverter
from preparation.rows import PreparedRow
from preparation.s3_objects import S3Listing
from preparation.source_copies import sample_sources
from preparation.step_runner import RowRecords, StepRunner
from preparation.steps.step import StepSection
from preparation.work_units import WorkUnit
from training.data.readers.records import BadRecord
from training.data.schema.rows import RowError

_SAMPLED_UNITS = 8
_ROWS_PER_UNIT = 40
_BYTES_PER_UNIT = 96 << 10
"""Rows beyond either are not measured, so that a sample takes some seconds."""
_LIMIT_S = 10.0
_MIB = 1 << 20


@dataclass(frozen=True)
class _PassCost:
    """Processor time beyond the steps, measured on seven sources of 0.3 to 18 KB a row.

    Attributes:
        s_per_mib: Seconds per MiB of text.
        s_per_row: Seconds per row.
    """

    s_per_mib: float
    s_per_row: float

    def seconds(self, rows: float, size: float) -> float:
        """Return the time of rows with a size in bytes."""
        return self.s_per_mib * size / _MIB + self.s_per_row * rows


_PASSES = _PassCost(0.07, 6e-5)
"""Reading, storing and writing rows."""
_DUPLICATES = _PassCost(0.34, 2.3e-4)
"""Signatures, pairs and verification."""
_START_S = 0.7
"""Processor time of a preparation without rows: start of workers, and its files."""
_WORKING_MIB = 150
"""Memory of a worker beyond that of its steps: rows, signatures and row groups under way. The peaks
of two preparations were 142 and 154 MiB above what their samples took."""
_BYTES_PER_ROW = 40
"""Memory per row of the task that joins pairs to clusters: its peak grew by 41 MiB from 11,000 to
1,100,000 rows, of which a tenth were duplicates."""


@dataclass(frozen=True)
class PreparationEstimate:
    """Rows, time and memory of a preparation, estimated from a sample.

    Attributes:
        rows: Number of rows of all sources.
        bytes: Size of all sources.
        units: Number of units, which bounds the number of workers.
        core_seconds: Processor time.
        worker_mib: Memory of a worker.
        shared_mib: Memory of the one task that joins duplicates to clusters, beyond that.
        sampled_rows: Rows that were measured.
    """

    rows: int
    bytes: int
    units: int
    core_seconds: float
    worker_mib: float
    shared_mib: float
    sampled_rows: int

    def seconds(self, cores: int) -> float:
        """Return the duration on a number of cores, without the start of machines."""
        return self.core_seconds / max(1, min(cores, self.units))

    def memory_gib(self, workers: int) -> float:
        """Return the memory of a number of workers on one machine."""
        return (self.worker_mib * max(1, min(workers, self.units)) + self.shared_mib) / 1024

    def line(self, cores: int) -> str:
        """Return the estimate as text, for a machine.

        Args:
            cores: Number of its cores.
        """
        return (
            f"about {self.rows:,} rows; {format_duration(self.seconds(cores))} on {cores} cores, "
            f"{self.memory_gib(cores):.1f} GiB of memory (from {self.sampled_rows} rows)"
        )


def estimate_on_target(job: PreparationJob) -> tuple[PreparationEstimate, dict[str, S3Listing]]:
    """Return what a preparation takes elsewhere, and the objects of its sources in S3.

    Of these, only beginnings are read here.

    Args:
        job: The job.

    Raises:
        TemperError: A source or a step cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="temper-") as folder:
        samples = sample_sources(job, Path(folder))
        planned = plan(job, copies={uri: copy for uri, (_, copy) in samples.items()})
        read = Counter[int]()
        for unit in planned.units:
            for part in unit.ranges:
                read[part.source] += part.bytes
        sizes = {
            index: samples[source.source][0].bytes / max(1, read[index])
            for index, source in enumerate(job.prepare.sources)
            if source.source in samples
        }
        found = estimate(planned, sizes)
    return found, {uri: listing for uri, (listing, _) in samples.items()}


def estimate(
    planned: PreparationPlan, scale_of: Mapping[int, float] = MappingProxyType({})
) -> PreparationEstimate:
    """Return what a preparation takes, from rows of evenly spaced units.

    Args:
        planned: The preparation.
        scale_of: By its index, how many times as large a source is as what the plan has of it.

    Raises:
        TemperError: A source or a step cannot be used.
    """

    def size(unit: WorkUnit) -> float:
        return unit.bytes * scale_of.get(unit.ranges[0].source, 1.0)

    steps = planned.job.prepare.steps
    sections = [step for step in steps if isinstance(step, StepSection)]
    sections = [step for step in sections if not isinstance(step, DuplicatesStep)]
    runner = StepRunner(sections, Ledger(ExampleTexts(steps)), RowRecords([], []))
    rows = seconds = written = 0.0
    sampled, covered = 0, 0.0
    start = time.process_time()
    count = len(planned.units)
    for index in range(0, count, max(1, math.ceil(count / _SAMPLED_UNITS))):
        batch, unit_bytes = _sample(planned, index), size(planned.units[index])
        scale = unit_bytes / batch.bytes if batch.bytes else 0.0
        begun = time.process_time()
        for row in runner.run(batch.rows):
            written += scale * sum(len(part.text.encode()) for part in row.content())
        seconds += scale * (time.process_time() - begun)
        rows += scale * len(batch.rows)
        sampled += len(batch.rows)
        covered += unit_bytes
        if time.process_time() - start > _LIMIT_S:
            break
    total = sum(map(size, planned.units))
    units = max(count, round(total / (planned.job.prepare.unit_mib * _MIB)))
    rest = total / covered if covered else 0.0  # units that were not sampled are like the others
    seconds = _START_S + rest * (seconds + _PASSES.seconds(rows, written))
    if any(isinstance(step, DuplicatesStep) for step in steps):
        seconds += rest * _DUPLICATES.seconds(rows, written)
    shared = rest * rows * _BYTES_PER_ROW / _MIB
    return PreparationEstimate(
        round(rest * rows),
        round(total),
        units,
        seconds,
        _resident_mib() + _WORKING_MIB,
        shared,
        sampled,
    )


def format_duration(seconds: float) -> str:
    """Return a duration as text: seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


@dataclass
class _UnitSample:
    """First rows of a unit.

    Attributes:
        rows: The rows.
        bytes: Their size on disk; in a packed file about that of their JSON, compressed.
    """

    rows: list[PreparedRow]
    bytes: int


def _sample(planned: PreparationPlan, index: int) -> _UnitSample:
    sample = _UnitSample([], 0)
    for part in planned.units[index].ranges:
        source = planned.job.prepare.sources[part.source]
        converter = RowConverter(source, planned.labels[part.source])
        lines: list[bytes] = []
        for record in read_records(part, source):
            if len(sample.rows) >= _ROWS_PER_UNIT or sum(map(len, lines)) > _BYTES_PER_UNIT:
                break
            if isinstance(record, BadRecord):
                continue
            lines.append(json.dumps(record.values, ensure_ascii=False, default=str).encode())
            try:
                row = converter.convert(record)
            except RowError:
                continue
            if row.content():
                sample.rows.append(row)
        text = b"\n".join([*lines, b""])
        packed = Path(part.path).suffix in (".gz", ".parquet")
        sizes = {True: part.bytes, False: len(zlib.compress(text)) if packed else len(text)}
        sample.bytes += sizes[part.is_document]
        if len(sample.rows) >= _ROWS_PER_UNIT:
            break
    return sample


def _resident_mib() -> float:
    """Return the largest resident memory of this process so far, with the steps' models."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024
