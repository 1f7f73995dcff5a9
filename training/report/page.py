"""Writer of `report.html`: the results of a run on one page without external resources.

`python -m training.report.page RUN_FOLDER` writes the page again.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data.tokenization.special_marks import mark_specials
from training.page_environment import page_environment
from training.report import formatting, rl_summary, summary, tables
from training.report.curves import Curve, draw_curves
from training.report.run_data import RunData, read_run_data
from training.report.warnings import collect_warnings

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
_LONGEST = 4000
"""Characters shown of a sampled answer or of a previewed row."""


@dataclass(frozen=True)
class ReportSection:
    """Section of the page about one run.

    Attributes:
        run_data: The run.
        anchor: Fragment identifier within the page.
        curves: Curves of the run.
    """

    run_data: RunData
    anchor: str
    curves: list[Curve]


def write_report(folder: Path) -> None:
    """Write `report.html` into the folder of a run or of a pipeline.

    Only that folder is read, so the report can be written again at any time. The same files give
    the same page, byte for byte.

    Args:
        folder: Run folder, finished or not; parts whose files are missing are left out.
    """
    page = render(read_run_data(folder))
    building = folder / f".report.html.{os.getpid()}"
    try:
        building.write_text(page, encoding="utf-8")
        building.replace(folder / "report.html")
    finally:
        building.unlink(missing_ok=True)


def render(run_data: RunData) -> str:
    """Return the page as HTML."""
    sections = [
        ReportSection(run, f"s{number}", draw_curves(run, f"s{number}"))
        for number, run in enumerate(run_data.stages or (run_data,), start=1)
    ]
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            run_data=run_data,
            sections=sections,
            summary=summary,
            tables=tables,
            rl_summary=rl_summary,
            collect_warnings=collect_warnings,
        )
    )


@cache
def _environment() -> Environment:
    return page_environment(
        _HERE,
        number=formatting.number,
        count=formatting.count,
        percent=formatting.percent,
        moment=formatting.moment,
        shown=_shown,
        segments=_segments,
    )


def _shown(text: Any) -> tuple[str, int]:
    """Return the part of a text that is shown, and the number of characters left out."""
    whole = str(text)
    return whole[:_LONGEST], max(0, len(whole) - _LONGEST)


def _segments(row: dict[str, Any]) -> tuple[list[tuple[str, bool]], int]:
    """Return the segments of a previewed row that are shown, and the number of characters left out.

    Each segment has a flag that is True if its tokens are supervised.
    """
    shown: list[tuple[str, bool]] = []
    room, left_out = _LONGEST, 0
    for text, learned in mark_specials(row.get("segments", ()), row.get("specials", ())):
        part = str(text)[:room]
        if part:
            shown.append((part, bool(learned)))
        room -= len(part)
        left_out += len(str(text)) - len(part)
    return shown, left_out


if __name__ == "__main__":
    write_report(Path(sys.argv[1]))
