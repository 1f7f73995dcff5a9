"""Implementation of `temper feedback`: analyze preference labels, write a cleaned set of pairs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from feedback.analysis import analyze
from feedback.readers import PARTS, read_labels
from feedback.report import console_lines, write_report
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
    read = read_labels(list(files), _columns(columns))
    analysis = analyze(read.labels, read.unlabelled)
    folder = out or Path("feedback-reports") / files[0].name.partition(".")[0]
    write_report(analysis, folder)
    for line in console_lines(analysis):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"done: {folder}/report.html, {folder}/pairs.jsonl\n")
    alpha = analysis.reliable_agreement.alpha
    if least_alpha is not None and (alpha is None or alpha < least_alpha):
        value = "cannot be computed" if alpha is None else f"is {alpha:.2f}"
        sys.stderr.write(f"Krippendorff's alpha {value}; the limit is {least_alpha:g}\n")
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
