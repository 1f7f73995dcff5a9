"""Suites of a job: `python -m evaluation check|run|challenger …`, started by training and jobs.

`check` reads suites and the items of their tasks, before training; `run` evaluates the model of a
finished run; `challenger` evaluates the model of a pipeline and decides its gates.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evaluation.config.suite import load_suite
from evaluation.items import read_all_items
from training.errors import TemperError
from training.run_folder import RunFolder
from training.worker import run_process, run_task


def check(paths: list[Path], *, paired: bool) -> int:
    """Read suites and their items, print everything that is wrong, and return an exit code.

    Args:
        paths: The suites.
        paired: True if another model is evaluated as well.
    """
    faults = []
    for path in paths:
        try:
            read_all_items(load_suite(path, against=paired).tasks)
        except TemperError as error:
            faults.append(str(error))
    sys.stderr.write("".join(f"{fault}\n" for fault in faults))
    return 2 if faults else 0


def main(path: Path) -> int:
    """Evaluate the model of the run in the folder `path` and return an exit code."""
    return run_task(RunFolder(path), _evaluate)


def _evaluate(folder: RunFolder) -> None:
    # Imported here: an error in what it imports is reported like any other.
    from evaluation.after_training import evaluate_suites

    evaluate_suites(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check")
    checking.add_argument("--paired", action="store_true")
    checking.add_argument("suites", type=Path, nargs="+")
    commands.add_parser("run").add_argument("folder", type=Path)
    challenging = commands.add_parser("challenger")
    challenging.add_argument("model", type=Path)
    challenging.add_argument("suite", type=Path)
    for name in ("--out", "--against", "--gates"):
        challenging.add_argument(name, type=Path, required=name == "--out")
    return parser


def challenge(options: argparse.Namespace) -> int:
    """Evaluate a challenger and return an exit code."""
    from evaluation.challenger import ChallengerOptions, evaluate_challenger

    try:
        return evaluate_challenger(
            ChallengerOptions(
                options.model, options.suite, options.out, options.against, options.gates
            )
        )
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    options = _parser().parse_args()
    if options.command == "check":
        sys.exit(check(options.suites, paired=options.paired))
    if options.command == "challenger":
        sys.exit(challenge(options))
    run_process(options.folder, main)
