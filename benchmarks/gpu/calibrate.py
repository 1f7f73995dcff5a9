"""Fit of the planner's constants to measured memory: `python -m benchmarks.gpu.calibrate FILE`.

The planner adds to the tensors of a step a workspace of cuBLAS, a share of the allocator that no
tensor uses, and the memory outside the allocator (`planning/peak_memory.py`). The rows of the
memory parts hold all three. With `--write` the tables become a section of the results page.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.results import ResultsFile
from benchmarks.readme_tables import PAGE, table, write_section

FEWEST = 10
"""Rows below which a fit would follow single configurations."""
_SHARE = 0.9
_UNDER = -0.03


@dataclass(frozen=True)
class Constants:
    """Constants of the planner on one device.

    Attributes:
        workspace_gib: Memory of cuBLAS within the allocator.
        fragments: Share of the allocator's memory that no tensor uses.
        context_gib: Memory outside the allocator.
    """

    workspace_gib: float
    fragments: float
    context_gib: float

    def total_gib(self, tensors_gib: float) -> float:
        """Return the planned memory of a device whose tensors have a size."""
        return (tensors_gib + self.workspace_gib) * (1 + self.fragments) + self.context_gib


def current() -> Constants:
    """Return the constants that plans use today."""
    from planning.peak_memory import CONTEXT_GIB, FRAGMENTS, WORKSPACE_GIB

    return Constants(WORKSPACE_GIB["cuda"], FRAGMENTS["cuda"], CONTEXT_GIB["cuda"])


def fit(rows: Sequence[dict[str, Any]]) -> Constants:
    """Return the constants that fit rows of one device.

    The workspace is the median difference, so that a configuration whose tensors are planned
    wrongly does not move it. The other two must not be underestimated: fragmentation is the 90th
    percentile, and the context the maximum.
    """
    workspace = median(row["peak_gib"] - _tensors(row) for row in rows)
    fragments = sorted(row["reserved_gib"] / row["peak_gib"] - 1 for row in rows)
    at = min(len(fragments) - 1, int(_SHARE * len(fragments)))
    context = max(row["outside_gib"] for row in rows)
    return Constants(max(0.0, workspace), fragments[at], context)


def errors(rows: Sequence[dict[str, Any]], constants: Constants) -> list[float]:
    """Return the relative errors of planned against occupied memory."""
    return [
        constants.total_gib(_tensors(row)) / (row["reserved_gib"] + row["outside_gib"]) - 1
        for row in rows
    ]


def measured_rows(results: ResultsFile) -> list[dict[str, Any]]:
    """Return the latest rows of a GPU's memory, those outside the tolerance included."""
    return [
        row
        for row in results.latest().values()
        if row["part"].startswith("memory") and "outside_gib" in row
    ]


def section(rows: Sequence[dict[str, Any]]) -> str:
    """Return the section of the results page, a pair of tables for each GPU."""
    names = sorted({row["gpu"] for row in rows})
    parts = [_device(name, [row for row in rows if row["gpu"] == name]) for name in names]
    return "## Memory on a GPU: the plan against the allocator\n\n" + "\n\n".join(parts)


def _device(name: str, rows: list[dict[str, Any]]) -> str:
    before, after = current(), fit(rows)
    constants = [
        ["workspace, GiB", f"{before.workspace_gib:.3f}", f"{after.workspace_gib:.3f}"],
        ["fragmentation", f"{before.fragments:.1%}", f"{after.fragments:.1%}"],
        ["outside the allocator, GiB", f"{before.context_gib:.2f}", f"{after.context_gib:.2f}"],
    ]
    summary = [
        _summary("tensors", [row["error"] for row in rows]),
        _summary("device memory, constants of today", errors(rows, before)),
        _summary("device memory, fitted constants", errors(rows, after)),
    ]
    header = ["", "configurations", "median error", "lowest", "highest", "more than 3 % under"]
    each = [
        [
            row["case"],
            *(f"{row[f'{key}_gib']:.2f}" for key in ("peak", "plan", "reserved", "outside")),
            f"**{row['error']:+.1%}**",
        ]
        for row in rows
    ]
    columns = ["GiB", "peak of tensors", "plan", "reserved", "outside", "error"]
    return "\n\n".join(
        [
            f"### {name}, driver {rows[0]['driver']}, torch {rows[0]['torch']}",
            table(["constant", "today", "fitted"], constants),
            table(header, summary),
            table(columns, each),
        ]
    )


def _summary(name: str, off: list[float]) -> list[object]:
    shown = [f"{median(map(abs, off)):.1%}", f"{min(off):+.1%}", f"{max(off):+.1%}"]
    return [name, len(off), *shown, sum(error < _UNDER for error in off)]


def _tensors(row: dict[str, Any]) -> float:
    return float(row["plan_gib"] - row["workspace_gib"])


def main() -> int:
    """Print the tables, and write them if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="file that `make bench-gpu` wrote")
    parser.add_argument("--write", action="store_true", help="write a section of the results page")
    options = parser.parse_args()
    rows = measured_rows(ResultsFile(options.results))
    counts = Counter(row["gpu"] for row in rows)
    if not rows or min(counts.values()) < FEWEST:
        has = ", ".join(f"{count} of {name}" for name, count in counts.items()) or "none"
        print(
            f"{options.results}: a fit needs {FEWEST} rows of the memory parts on each GPU, and it "
            f"has {has}. Run `make bench-gpu PART=memory-full`, memory-adapters and memory-methods",
            file=sys.stderr,
        )
        return 2
    text = section(rows)
    print(text)
    if options.write:
        write_section("gpu-memory", text, PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
