"""Section of the results page: the latest row of each case on a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import ResultsFile
from benchmarks.readme_tables import PAGE, table, write_section

_LONGEST = 160


def write(results: ResultsFile, page: Path = PAGE) -> None:
    """Write the section `gpu` from the rows of a file that were measured on a GPU."""
    rows = [row for row in results.latest().values() if row["device"] == "cuda"]
    write_section("gpu", section(rows), page)


def section(rows: list[dict[str, Any]]) -> str:
    """Return the section: a table of parts, then one of cases for each machine."""
    machines = sorted({_machine(row) for row in rows})
    parts = [_part(name, rows) for name in dict.fromkeys(row["part"] for row in rows)]
    header = ["part", "passed", "failed", "stopped", "not installed"]
    return f"""## GPU checks

Models with random weights, in bf16 unless a case says otherwise; `benchmarks/gpu/README.md` says
what each part compares and with which tolerance. Measured {", ".join(_days(rows))} on
{"; ".join(machines)}. `make bench-gpu`.

{table(header, parts)}

{table(["part", "case", "result", "measured"], [_case(row) for row in rows])}
"""


def _days(rows: Iterable[dict[str, Any]]) -> list[str]:
    return sorted({row["time"][:10] for row in rows})


def _machine(row: dict[str, Any]) -> str:
    return (
        f"{row['gpu']} ({row['gpu_memory_gib']} GiB), driver {row['driver']}, torch {row['torch']}"
    )


def _part(name: str, rows: list[dict[str, Any]]) -> list[object]:
    statuses = [row["status"] for row in rows if row["part"] == name]
    failed = statuses.count("failed") + statuses.count("error")
    others = [statuses.count("stopped"), statuses.count("not installed")]
    return [name, statuses.count("ok"), failed, *others]


def _case(row: dict[str, Any]) -> list[object]:
    if row["status"] != "ok":
        error = " ".join(str(row.get("error", "")).replace("|", "/").split())
        return [row["part"], row["case"], f"**{row['status']}**", error[:_LONGEST]]
    shown = [f"{name} {_value(row[name])}" for name in _SHOWN if row.get(name) is not None]
    return [row["part"], row["case"], "ok", ", ".join(shown)]


_SHOWN = ("last_loss", "tokens_per_second", "mfu", "peak_gib", "weights", "tolerance", "wall_s")


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
