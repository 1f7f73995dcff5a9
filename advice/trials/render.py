"""Table of the trials on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from advice.trials.comparison import TrialResult


def render_trials(results: Sequence[TrialResult], console: Console) -> None:
    """Print the results, with the intervals by which they differ from the base."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("trial", "held-out loss", "against the base", "learning rate", "seconds"):
        table.add_column(name, justify="left" if name == "trial" else "right")
    for result in results:
        table.add_row(*_cells(result))
    console.print(Padding(table, (1, 0, 0, 2)))
    console.print(Padding(_summary(results), (0, 0, 1, 2)))


def _cells(result: TrialResult) -> tuple[str, ...]:
    if result.loss is None or result.interval is None or result.difference is None:
        return result.name, result.note, "", "", ""
    low, high = result.interval
    difference, (least, most) = result.difference
    against = "" if least == most == 0 else f"{difference:+.3f} ({least:+.3f} to {most:+.3f})"
    rate = "" if result.learning_rate is None else f"{result.learning_rate:g}"
    seconds = f"{result.seconds:.0f}" if result.seconds else ""
    return result.name, f"{result.loss:.3f} ({low:.3f} to {high:.3f})", against, rate, seconds


def _summary(results: Sequence[TrialResult]) -> str:
    """Return which approach was best, and which the trials cannot tell from it."""
    measured = [result for result in results if result.to_best is not None]
    best = min(measured, key=lambda result: result.loss or 0.0)
    close = [
        result.name
        for result in measured
        if result is not best and result.to_best is not None and result.to_best[1][0] <= 0
    ]
    alike = f"; not significantly worse: {', '.join(close)}" if close else ""
    return f"lowest loss: {best.name}{alike} (95 % intervals over rows, one seed)"
