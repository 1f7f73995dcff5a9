"""One part in this process: `python -m benchmarks.gpu.run_part PART HOME RESULTS DEVICE [CASE]`.

A case that fails does not lose the others. After an error of CUDA the process is of no use any
more: it ends with exit code 75, and the runner starts it again for the cases that are left.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.gpu.case import Case, CaseFailedError, NotInstalledError
from benchmarks.gpu.results import ResultsFile, Status
from benchmarks.gpu.scale import Scale

RESTART = 75
"""Exit code that asks for another process."""
_PACKAGE = "benchmarks.gpu.parts"


def cases_of(part: str, scale: Scale) -> Iterator[Case]:
    """Yield the cases of a part: of this package, or of any module named in full.

    `memory-full` is the group `full` of the module `memory`.
    """
    name, _, group = part.partition("-")
    module = import_module(name if "." in name else f"{_PACKAGE}.{name}")
    yield from module.cases(scale, group) if group else module.cases(scale)


def run_part(part: str, scale: Scale, results: ResultsFile, only: str = "") -> int:
    """Run the cases of a part that have no row since `HOME/started`, and return an exit code.

    Args:
        part: Name of the part.
        scale: Device and sizes.
        results: File that each case's row is appended to.
        only: Text that the names of the cases contain.
    """
    tried = _tried(scale.home, part)
    for case in cases_of(part, scale):
        if case.name in tried or only not in case.name:
            continue
        with (scale.home / f"{part}.tried").open("a", encoding="utf-8") as file:
            file.write(case.name + "\n")
        folder = scale.home / "work"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        status, values, is_fatal = _outcome(case, folder)
        results.append(part, case.name, status, scale.device, values)
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{part}: {case.name}: {status} {values.get('error', '')}", flush=True)
        if is_fatal:
            return RESTART
    return 0


def _tried(home: Path, part: str) -> list[str]:
    """Return the cases that were started; the last one may have ended the process."""
    path = home / f"{part}.tried"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _outcome(case: Case, folder: Path) -> tuple[Status, dict[str, Any], bool]:
    try:
        return "ok", dict(case.run(folder)), False
    except NotInstalledError as missing:
        return "not installed", {"error": str(missing)}, False
    except CaseFailedError as failed:
        return "failed", {**failed.measured, "error": str(failed)}, False
    except Exception as error:
        # After most errors of CUDA every later call in the process fails too.
        is_fatal = "CUDA error" in str(error) or type(error).__name__ == "AcceleratorError"
        message = f"{type(error).__name__}: {error}"[:2000]
        return "error", {"error": message, "traceback": traceback.format_exc()[-4000:]}, is_fatal


if __name__ == "__main__":
    part, home, path, device, *rest = sys.argv[1:]
    assert device in ("cpu", "cuda")
    scale = Scale(device, Path(home))
    code = run_part(part, scale, ResultsFile(Path(path)), *rest)
    sys.stdout.flush()
    os._exit(code)
