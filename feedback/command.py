"""Implementation of `temper feedback`: analyze preference labels, write a cleaned set of pairs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from feedback.analysis import analyze
from feedback.rankings import analyze_rankings, holds_rankings
from feedback.readers import PARTS, read_labels
from feedback.report import console_lines, kappa, write_report
from training.errors import JobError, Problem

_GATE = 4
"""Exit code if the agreement is below `--least-alpha`."""


def analyze_labels(
    files: Sequence[Path],
    columns: Sequence[str] = (),
    out: Path | None = None,
    least_alpha: float | None = None,
) -> int:
    """Write the report, `pairs.jsonl` and `dropped.jsonl`, and return the exit code.

    Args:
        files: CSV, JSON Lines or Ground Truth manifests.
        columns: Names of columns, each as PART=COLUMN, such as `choice=overall`.
        out: The folder to write; one named after the first file when omitted.
        least_alpha: Return 4 if Krippendorff's alpha is below this or cannot be computed.

    Raises:
        TemperError: An argument or the data cannot be used.
    """
    folder = out or Path("feedback-reports") / files[0].name.partition(".")[0]
    if not columns and holds_rankings(files):
        return _compare_rankings(files, folder, least_alpha)
    read = read_labels(list(files), _columns(columns))
    analysis = analyze(read.labels, read.unlabelled)
    write_report(analysis, folder)
    for line in console_lines(analysis):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"done: {folder}/report.html, {folder}/pairs.jsonl\n")
    return _gate("", analysis.reliable_agreement.alpha, least_alpha)


def _compare_rankings(files: Sequence[Path], folder: Path, least_alpha: float | None) -> int:
    """Write the report of rankings, and return the exit code."""
    codes = []
    for name, one in analyze_rankings(files, folder).items():
        sys.stdout.write(
            f"{name}: {one.rankings:,} rankings, {one.compared:,} comparisons of two annotators: "
            f"Krippendorff's ordinal alpha {kappa(one.alpha)}, Kendall's tau {kappa(one.kendall)}, "
            f"Spearman's rho {kappa(one.spearman)}\n"
        )
        codes.append(_gate(f" of {name}", one.alpha, least_alpha))
    sys.stdout.write(f"done: {folder}/report.json, {folder}/rankings.jsonl\n")
    return max(codes)


def _gate(of: str, alpha: float | None, least_alpha: float | None) -> int:
    """Return 4, and say why, if the agreement is below the limit."""
    if least_alpha is not None and (alpha is None or alpha < least_alpha):
        value = "cannot be computed" if alpha is None else f"is {alpha:.2f}"
        sys.stderr.write(f"Krippendorff's alpha{of} {value}; the limit is {least_alpha:g}\n")
        return _GATE
    return 0


def _columns(pairs: Sequence[str]) -> dict[str, str]:
    """Return column names by the part of a label they hold.

    Raises:
        JobError: A pair is not PART=COLUMN.
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        part, _, column = pair.partition("=")
        if part not in PARTS or not column:
            fix = f"Write PART=COLUMN; parts: {', '.join(PARTS)}"
            raise JobError("feedback", [Problem("--columns", "not PART=COLUMN", pair, fix)])
        columns[part] = column
    return columns
