"""Look at preference labels: `python -m feedback DATA`, which is what `make feedback DATA=…` runs.

Writes `report.html`, `report.json`, `pairs.jsonl` (to learn from) and `dropped.jsonl`. Exit codes:
0 done, 3 the data, 4 fewer agree than `--least-alpha` asks for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from feedback.analysis import analyze
from feedback.readers import PARTS, read_labels
from feedback.report import in_lines, write
from training.errors import TemperError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        read = read_labels(options.data, dict(options.columns))
        findings = analyze(read.labels, read.unlabelled)
        folder = options.out or Path("feedback-reports") / options.data[0].name.partition(".")[0]
        write(findings, folder)
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for line in in_lines(findings):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"done: {folder}/report.html, {folder}/pairs.jsonl\n")
    alpha = findings.in_line.alpha
    if options.least_alpha is not None and (alpha is None or alpha < options.least_alpha):
        said = "cannot be told" if alpha is None else f"is {alpha:.2f}"
        sys.stderr.write(f"Krippendorff's alpha {said}, below {options.least_alpha:g}\n")
        return 4
    return 0


def _column(text: str) -> tuple[str, str]:
    part, _, column = text.partition("=")
    if part not in PARTS or not column:
        raise argparse.ArgumentTypeError(f"{text} is not PART=COLUMN; parts: {', '.join(PARTS)}")
    return part, column


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m feedback", description="Look at labels.")
    parser.add_argument("data", type=Path, nargs="+", help="CSV, JSONL or a Ground Truth manifest")
    columns = parser.add_argument("--columns", type=_column, nargs="+", default=[])
    columns.metavar, columns.help = "PART=COLUMN", "columns of other names, such as choice=overall"
    parser.add_argument("--out", type=Path, help="folder for the report and the cleaned set")
    parser.add_argument(
        "--least-alpha", type=float, help="fail below this agreement of those in line"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
