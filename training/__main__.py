"""Train a job: `python -m training JOB`, which is what `temper train JOB` runs.

Exit codes: 0 done, 2 the job, 3 the data, 4 the run, 5 a limit of `evaluate.safety`, 75 stopped
(the same command resumes).
"""

from __future__ import annotations

# argparse, not temper.cli: containers start `python -m training`, and images carry neither
# `temper` nor Typer.
import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from training.config import Job, Pipeline, load_job
from training.config.input_paths import require_inputs
from training.config.model import SCRATCH
from training.config.stage_references import ROWS
from training.console import say
from training.errors import CrashError, JobError, Problem, TemperError
from training.nodes import NodeSet
from training.supervisor import supervise


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    overrides = " ".join(options.set)
    try:
        if options.check:
            check_job(options.job, overrides)
        else:
            train_job(
                options.job,
                overrides,
                runs=options.runs,
                fresh=options.fresh,
                folder=options.folder,
            )
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        if options.outcome:
            write_outcome(options.outcome, error)
        return error.exit_code
    return 0


def check_job(path: Path, overrides: str = "") -> None:
    """Check a job file and its inputs, and print that it is valid.

    Raises:
        TemperError: It is not, or an input does not exist; the error lists every problem.
    """
    job = load_job(path, overrides)
    for line in require_inputs(job, path.parent):
        say(line)
    check_safety_files(job)
    check_suite_files(job)
    say(f"{path}: fine")


def train_job(
    path: Path,
    overrides: str = "",
    *,
    runs: Path = Path("runs"),
    fresh: bool = False,
    folder: Path | None = None,
) -> None:
    """Train the job of a file on this machine and print where its model is.

    Args:
        path: The job file.
        overrides: `key=value` pairs for it, separated by spaces.
        runs: The folder of run folders.
        fresh: Start a new run instead of resuming an unfinished one.
        folder: The run folder itself, in place of `runs`.

    Raises:
        TemperError: The job is invalid, the run failed, or it was stopped.
    """
    job = load_job(path, overrides)
    require_inputs(job, path.parent, here=True)
    check_safety_files(job)
    check_suite_files(job)
    folder = supervise(
        job,
        runs=runs,
        fresh=fresh,
        source=str(path),
        folder=folder,
        plan=plan_run,
    )
    stages = job.stages if isinstance(job, Pipeline) else (job,)
    if "TRAINING_JOB_NAME" not in os.environ and any(s.resources.register_model for s in stages):
        say("not registered: resources.register_model is used by SageMaker training jobs only")
    made = "model" if (folder / "model").exists() else ROWS
    say(f"done: {folder}/{made}, {folder}/report.html")


def check_safety_files(job: Job | Pipeline) -> None:
    """Read the files that `evaluate.safety` names.

    Raises:
        TemperError: One of them cannot be used.
    """
    stages = job.stages if isinstance(job, Pipeline) else (job,)
    if any(stage.evaluate.safety is not None for stage in stages):
        # Imported here: `safety` is built upon `training`, and most jobs do not use it.
        from safety.job_files import check_files

        check_files(job)


def check_suite_files(job: Job | Pipeline) -> None:
    """Read the suites that `evaluate.suite` names, with the files of their tasks.

    Raises:
        JobError: One of them cannot be used.
    """
    stages = job.stages if isinstance(job, Pipeline) else (job,)
    for stage in stages:
        if not stage.evaluate.suite:
            continue
        # By its command line: `evaluation` is built upon `training`, which does not import it.
        paired = ["--paired"] if stage.model.source != SCRATCH else []
        command = [sys.executable, "-m", "evaluation", "check", *paired, *stage.evaluate.suite]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise JobError(stage.name, [Problem("evaluate.suite", done.stderr.strip())])


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
