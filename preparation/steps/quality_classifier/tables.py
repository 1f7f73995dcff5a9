"""Tables of the step `quality_classifier` in the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from preparation.steps.quality_classifier.accuracy import THRESHOLDS
from preparation.steps.step import FactTable


def tables(totals: Mapping[str, Any]) -> Iterator[FactTable]:
    """Yield the accuracy on the examples, and what each threshold would do to the rows."""
    rows = totals.get("rows", {})
    if "auc" in totals:
        yield FactTable(
            "Quality classifier: accuracy on examples that it has not learned from",
            ("measure", "value"),
            (
                ("good examples", totals["good"]),
                ("bad examples", totals["bad"]),
                ("AUC (95 % interval)", _interval(totals["auc"])),
                ("rows that are examples, left out below", rows.get("examples", 0)),
                ("rows without a text to score", rows.get("without text", 0)),
                ("model, SHA-256", totals["model"][:16]),
            ),
        )
    counts = [rows.get(str(tenth), 0) for tenth in range(10)]
    total = sum(counts)
    lines = []
    for index, line in enumerate(totals.get("thresholds", ())):
        below = sum(counts[: index + 1])
        lines.append(
            (
                f"{line['drop_below']:.1f}",
                _interval(line["good_kept"]),
                _interval(line["bad_removed"]),
                _interval(line["precision"]),
                f"{below:,} ({100 * below / total:.1f} %)" if total else "–",
            )
        )
    assert len(lines) in (0, len(THRESHOLDS)), "a tenth of the score is the step of thresholds"
    yield FactTable(
        "Quality classifier: what each threshold does",
        ("drop_below", "good kept", "bad removed", "good among kept", "rows below"),
        tuple(lines),
    )


def _interval(values: Sequence[float] | None) -> str:
    if values is None:
        return "–"
    value, lower, upper = values
    return f"{value:.3f} ({lower:.3f}–{upper:.3f})"
