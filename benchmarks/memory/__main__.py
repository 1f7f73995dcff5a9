"""What a plan says of memory, against what is measured: `make bench-memory`.

Every configuration is trained by Temper for two steps, in processes of its own, and the most that
tensors held is set beside the plan's figure and beside what others estimate. Then the same training
step runs on models of 1 to 70 billion weights whose tensors have a shape and no numbers.
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
from benchmarks.memory.fixtures import make_material
from benchmarks.memory.measure import measure
from benchmarks.memory.predict import foretell
from benchmarks.memory.results import MemoryResult, section
from benchmarks.memory.simulate import Simulation, simulate, simulations
from benchmarks.readme_tables import write_section


def main() -> None:
    """Measure, print, and write the section of the results page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="only names that contain this; prints, writes nothing")
    parser.add_argument(
        "--keep", type=Path, help="file of outcomes; what is there is not run again"
    )
    parser.add_argument(
        "--within", type=float, default=math.inf, help="minutes; what is not reached is listed"
    )
    asked = parser.parse_args()
    end = time.monotonic() + asked.within * 60
    outcomes: list[MemoryResult] = []
    with tempfile.TemporaryDirectory() as scratch:
        keep = asked.keep or Path(scratch) / "kept.jsonl"
        material = keep.parent / "memory-material" if asked.keep else Path(scratch) / "material"
        material.mkdir(parents=True, exist_ok=True)
        make_material(material)
        for what in [*cases(), *simulations()]:
            if asked.only and asked.only not in f"{what.group}: {what.name}":
                continue
            outcome = _outcome(what, material, keep, Path(scratch) / "run", end)
            print(outcome.line(), flush=True)
            outcomes.append(outcome)
    if not asked.only:
        write_section("memory", section(outcomes))


def _outcome(
    what: Case | Simulation, material: Path, keep: Path, folder: Path, end: float
) -> MemoryResult:
    """The figures of one configuration; measured, unless that was done before."""
    known = {one["key"]: one for one in _lines(keep)}
    key = f"{what.group}: {what.name}"
    if key not in known and time.monotonic() > end:
        return MemoryResult(what.group, what.name, error="not reached in the time there was")
    try:
        told = foretell(what, material)
        if key not in known:
            measured = (
                measure(what, material, folder)
                if isinstance(what, Case)
                else simulate(what, material)
            )
            known[key] = {"key": key, **measured}
            with keep.open("a") as file:
                file.write(json.dumps(known[key]) + "\n")
    except Exception as error:
        return MemoryResult(what.group, what.name, error=f"{type(error).__name__}: {error}")
    return MemoryResult(what.group, what.name, measured=known[key]["peak"], **told)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


if __name__ == "__main__":
    main()
