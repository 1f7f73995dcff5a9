"""Page of a preparation: what was read, changed, rejected and written, with examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preparation.report.groups import tables
from preparation.rows import Scalar
from training.page_environment import page_environment

_HERE = Path(__file__).parent
_STYLE = _HERE.parents[1] / "training" / "report"
_MOST = 6


def render_page(report: dict[str, Any]) -> str:
    """Return the page as HTML, without external resources."""
    environment = page_environment(_HERE, _STYLE, largest=largest, share=share, value=value)
    return environment.get_template("page_of_data.html.jinja").render(
        report=report, group_tables=tables(report["groups"])
    )


def largest(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return counts by size, the rest of many as one."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[_MOST:])
    return [*ordered[:_MOST], *([("others", rest)] if rest else [])]


def value(fact: Scalar) -> str:
    """Return a value of a table of facts as text."""
    if isinstance(fact, int):
        return f"{fact:,}"
    return f"{fact:,.4g}" if isinstance(fact, float) else fact


def share(part: int, total: int) -> str:
    """Return a share as a percentage that does not round a few rows to nothing."""
    if not total:
        return "–"
    percent = 100 * part / total
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %"
