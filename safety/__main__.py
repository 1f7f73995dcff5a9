"""Safety evaluation of a finished run: `python -m safety RUN_FOLDER`, started by training."""

from __future__ import annotations

import sys
from pathlib import Path

from training.run_folder import RunFolder
from training.worker import run_process, run_task


def main(path: Path) -> int:
    """Evaluate the model of the run in the folder `path` and return an exit code."""
    return run_task(RunFolder(path), _evaluate)


def _evaluate(folder: RunFolder) -> None:
    # Imported here: an error in what it imports is reported like any other.
    from safety.after_training import evaluate_safety

    evaluate_safety(folder)


if __name__ == "__main__":
    run_process(Path(sys.argv[1]), main)
