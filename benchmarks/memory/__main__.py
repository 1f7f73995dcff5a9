"""Compare planned memory with measured memory: `make bench-memory`.

Temper trains every configuration for two steps, in separate processes. The peak of tensor memory is
compared with the plan and with other estimators. The same training step then runs on models of 1 to
70 billion parameters under `FakeTensorMode`, where tensors have a shape and no data.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.memory.cases import Case, cases
from benchmarks.memory.fixtures import write_fixtures
from benchmarks.memory.measure import measure
from benchmarks.memory.predict import predict_memory
from benchmarks.memory.results import MemoryResult, section
from benchmarks.memory.simulate import Simulation, simulate, simulations
from benchmarks.readme_tables import write_section


def main() -> None:
    """Measure, print, and write the section of the results page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="only names that contain this; print, write nothing")
    parser.add_argument(
        "--keep", type=Path, help="file of results; those in it are not measured again"
    )
    parser.add_argument(
        "--within",
        type=float,
        default=math.inf,
        help="minutes; configurations not reached are listed",
    )
    options = parser.parse_args()
    end = time.monotonic() + options.within * 60
    results: list[MemoryResult] = []
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch) / "kept.jsonl"
        fixtures = keep.parent / "memory-fixtures" if options.keep else Path(scratch) / "fixtures"
        fixtures.mkdir(parents=True, exist_ok=True)
        write_fixtures(fixtures)
        for case in [*cases(), *simulations()]:
            if options.only and options.only not in f"{case.group}: {case.name}":
                continue
            result = _result(case, fixtures, keep, Path(scratch) / "run", end)
            print(result.line(), flush=True)
            results.append(result)
    if not options.only:
        write_section("memory", section(results))


def _result(
    case: Case | Simulation, fixtures: Path, keep: Path, folder: Path, end: float
) -> MemoryResult:
    """Return the result of one configuration, from the file `keep` if it has one."""
    measured = {row["key"]: row for row in _lines(keep)}
    key = f"{case.group}: {case.name}"
    if key not in measured and time.monotonic() > end:
        return MemoryResult(case.group, case.name, error="not reached within the time limit")
    try:
        predicted = predict_memory(case, fixtures)
        if key not in measured:
            peaks = (
                measure(case, fixtures, folder)
                if isinstance(case, Case)
                else simulate(case, fixtures)
            )
            measured[key] = {"key": key, **peaks}
            with keep.open("a") as file:
                file.write(json.dumps(measured[key]) + "\n")
    except Exception as error:
        return MemoryResult(case.group, case.name, error=f"{type(error).__name__}: {error}")
    return MemoryResult(case.group, case.name, measured=measured[key]["peak"], **predicted)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


if __name__ == "__main__":
    main()
