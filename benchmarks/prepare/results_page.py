"""Figures of the benchmarks of `prepare`: printed, kept as JSON, and rendered as one table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.training_runs import DATA

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        step: Step that was measured.
        measure: What was measured, with its unit.
        bar: Least or greatest value that is acceptable, such as `≥ 0.985`; empty if there is none.
        measured: Value measured.
        how: Data and method.
    """

    step: str
    measure: str
    bar: str
    measured: str
    how: str


def data_folder(description: str | None) -> Path:
    """Return the folder of the data, from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=DATA, help=f"default: {DATA}")
    folder: Path = parser.parse_args().data
    if not folder.is_dir():
        parser.error(f"{folder} does not exist: name the folder of the data with --data")
    return folder


def publish(name: str, figures: Sequence[Figure], packages: Sequence[str]) -> None:
    """Print the figures of a benchmark, write them as JSON, and render the section of all.

    Args:
        name: Module of the benchmark.
        figures: Its figures.
        packages: Packages whose version matters.
    """
    print(_table(figures))
    RESULTS.mkdir(exist_ok=True)
    kept = {"measured": circumstances(packages), "figures": [asdict(one) for one in figures]}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    write_section("prepare", _section())


def _section() -> str:
    documents = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    figures = [Figure(**one) for kept in documents.values() for one in kept["figures"]]
    sources = "\n".join(
        f"- `python -m benchmarks.prepare.{name}`: {kept['measured']}"
        for name, kept in documents.items()
    )
    return (
        "## Data preparation\n\n"
        "Quality and speed of the steps of `temper prepare`. Settings were chosen on one part of "
        "the data and measured on another. Speeds are per second of CPU time of one core. "
        "`make bench-prepare` runs them all.\n\n"
        f"{_table(figures)}\n\n{sources}"
    )


def _table(figures: Sequence[Figure]) -> str:
    rows = [(one.step, one.measure, one.bar or "–", one.measured, one.how) for one in figures]
    return table(["step", "measure", "bar", "measured", "how"], rows)
