"""Train a job: `python -m training JOB`, which is what `make train JOB=…` runs.

Exit codes: 0 done, 2 the job, 3 the data, 4 the run, 75 stopped (the same command goes on).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from training.config import Job, load_job
from training.config.stage_references import ROWS
from training.console import say
from training.errors import CrashError, TemperError
from training.nodes import NodeSet
from training.supervisor import supervise


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        job = load_job(options.job, " ".join(options.set))
        if options.check:
            say(f"{options.job}: fine")
            return 0
        folder = supervise(
            job,
            runs=options.runs,
            fresh=options.fresh,
            source=str(options.job),
            folder=options.folder,
            foresee=plan_run,
        )
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        if options.outcome:
            write_outcome(options.outcome, error)
        return error.exit_code
    made = "model" if (folder / "model").exists() else ROWS
    say(f"done: {folder}/{made}, {folder}/report.html")
    return 0


def plan_run(job: Job) -> dict[str, Any]:
    """Plan a run for the machine it starts on."""
    # Imported here: a plan is asked for once a worker has been started, and may be missing.
    from planning import plan_here

    return plan_here(job, nodes=NodeSet.here().count).document()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train a job.")
    parser.add_argument("job", type=Path, help="the job file")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="override keys of the job file"
    )
    parser.add_argument("--fresh", action="store_true", help="start over, resume nothing")
    parser.add_argument("--check", action="store_true", help="check the job file and stop")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go")
    parser.add_argument("--folder", type=Path, help="the run folder itself, in place of --runs")
    parser.add_argument("--outcome", type=Path, help="file to say in, as JSON, why it failed")
    return parser


def write_outcome(path: Path, error: TemperError) -> None:
    """Write why the command failed, for whoever started it.

    `again` says whether the same command may go better the next time.
    """
    word = {"message": str(error), "again": isinstance(error, CrashError)}
    path.write_text(json.dumps(word), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
