"""One training process: `python -m training.worker RUN_FOLDER [TASK]`, alone or under torchrun.

The tasks are `train`, the default, and `export`.
"""

from __future__ import annotations

import errno
import gc
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from training.errors import Interrupted, TemperError
from training.run_folder import RunFolder, hold

logger = logging.getLogger(__name__)


def import_uncollected(module: str) -> ModuleType:
    """Import a module without garbage collections, and exempt what it created from later ones.

    The libraries create some million objects that live as long as the process. Collections that
    look through them are a fifth of the time that the import takes.
    """
    if module in sys.modules:
        return sys.modules[module]
    enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def main(path: Path, task: str = "train") -> int:
    """Run a task of the job in the folder `path` and return an exit code."""
    return run_task(RunFolder(path), _export if task == "export" else _train)


def _train(folder: RunFolder) -> None:
    # Imported here: an error in what it imports is reported like any other.
    import_uncollected("training.pipeline").run(folder)


def _export(folder: RunFolder) -> None:
    import_uncollected("training.export.after_training").export_trained(folder)


def run_task(folder: RunFolder, task: Callable[[RunFolder], None]) -> int:
    """Run a task in a run folder, write its failure there, and return an exit code."""
    rank = int(os.environ.get("RANK", 0))
    try:
        task(folder)
    except Interrupted as stop:
        folder.write_failure(str(stop), stop.exit_code)
        return stop.exit_code
    except TemperError as error:
        logger.error("%s", error)
        folder.write_failure(str(error), error.exit_code)
        return error.exit_code
    except BaseException as error:
        logger.error("%s", traceback.format_exc())
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            folder.write_failure(folder.explain_full(), 4)
            return 4
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        log = folder.logs / f"rank-{rank}.log"
        message = f"{type(error).__name__}: {first} (traceback in {log})"
        folder.write_failure(message, 4, explained=False)
        return 4
    return 0


def write_logs(folder: RunFolder, rank: int) -> None:
    """Log each process to its own file, and discard what ranks above 0 print."""
    handler = logging.FileHandler(folder.logs / f"rank-{rank}.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
    if rank == 0:
        terminal = logging.StreamHandler(sys.stdout)
        terminal.addFilter(_is_own_warning)
        logging.getLogger().addHandler(terminal)
    else:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, sys.stdout.fileno())


def _is_own_warning(record: logging.LogRecord) -> bool:
    """Return True for records to show on the terminal: warnings of this package."""
    return record.name.startswith("training.") and record.levelno == logging.WARNING


def run_process(path: Path, task: Callable[[Path], int]) -> NoReturn:
    """Run a task as this process: hold the run folder, write logs, and exit with its code."""
    with hold(path):
        write_logs(RunFolder(path), int(os.environ.get("RANK", 0)))
        code = task(path)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of libraries must not keep a finished process, nor destructors turn success into 1.
    os._exit(code)


if __name__ == "__main__":
    run_process(Path(sys.argv[1]), lambda path: main(path, *sys.argv[2:]))
