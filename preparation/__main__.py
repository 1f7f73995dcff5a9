"""Prepare data: `python -m preparation JOB`, which is what `temper prepare JOB` runs.

Exit codes: 0 done, 2 the job, 3 the data, 4 the run.
"""

from __future__ import annotations

# argparse, not temper.cli: containers start `python -m preparation`, and images lack `temper`.
import argparse
import json
import sys
from pathlib import Path

from preparation.command import run_preparation, summary_lines
from training.errors import TemperError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        folder = run_preparation(options.job, " ".join(options.set))
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        _write_outcome(options.outcome, str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if options.outcome:
        _write_outcome(options.outcome, _result(folder))
    return 0


def _result(folder: str) -> str:
    from preparation.passes.building import REPORT_FILE, read_json
    from preparation.storage import open_folder

    return f"{summary_lines(read_json(open_folder(folder), REPORT_FILE))[-1]}\n{folder}"


def _write_outcome(path: Path | None, message: str) -> None:
    """Write what was prepared, or why it failed, for whoever started the command."""
    if path is not None:
        path.write_text(json.dumps({"message": message}), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m preparation", description="Prepare data.")
    parser.add_argument("job", type=Path, help="the job file")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="override keys of the job file"
    )
    parser.add_argument("--outcome", type=Path, help="file for the result or the error, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
