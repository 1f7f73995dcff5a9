"""Runner of parts: each in processes of its own, with a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.results import ResultsFile
from benchmarks.gpu.run_part import RESTART

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Runner:
    """Settings of a run of the benchmark.

    Attributes:
        device: `cpu` or `cuda`.
        home: Folder of models, rows and logs; models are kept for the next part.
        results: File of results.
        limit_s: Seconds that a part may take.
        only: Text that the names of the cases contain.
        resume: Leave out the cases that the file has as passed or not installed.
    """

    device: str
    home: Path
    results: ResultsFile
    limit_s: float
    only: str = ""
    resume: bool = False

    def run(self, part: str) -> bool:
        """Run a part and return whether every case that was run passed.

        A process that dies loses the case it was at, and the next process runs the others.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        tried = self.home / f"{part}.tried"
        finished = self.results.finished(part, self.device) if self.resume else set()
        tried.write_text("".join(f"{name}\n" for name in sorted(finished)), encoding="utf-8")
        first, end = len(self.results.rows()), time.monotonic() + self.limit_s
        while True:
            started, recorded = len(_lines(tried)), len(self.results.rows())
            code = self._run_process(part, end - time.monotonic())
            cases = _lines(tried)[started:]
            if code not in (0, RESTART):
                ended = {row["case"] for row in self.results.rows()[recorded:]}
                self._record_death(
                    part, next((c for c in cases[-1:] if c not in ended), None), code
                )
            # A process that died before its first case would die again.
            if code in (0, None) or not cases:
                break
        rows = self.results.rows()[first:]
        passed = all(row["status"] in ("ok", "not installed") for row in rows)
        return passed and bool(rows or finished)

    def _run_process(self, part: str, seconds: float) -> int | None:
        """Return the exit code of a process that runs the part, or None if the time was up."""
        command = [sys.executable, "-m", "benchmarks.gpu.run_part", part, str(self.home)]
        command += [str(self.results.path), self.device, self.only]
        environment = {**os.environ, "PYTHONPATH": _path(), "PYTHONUNBUFFERED": "1"}
        environment["TEMPER_CACHE"] = str(self.home / "cache")
        environment["HF_HUB_OFFLINE"] = "1"
        if self.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        with (self.home / f"{part}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                return process.wait(max(seconds, 0.1))
            except subprocess.TimeoutExpired:
                return None
            finally:
                # Its workers and servers too; the group is this process's own.
                _kill_group(process.pid)
                process.wait()

    def _record_death(self, part: str, case: str | None, code: int | None) -> None:
        """Append a row for the case at which the process ended; None between two cases."""
        log = (self.home / f"{part}.log").read_text(encoding="utf-8", errors="replace")
        what = f"process ended with code {code}"
        if code is None:
            what = f"stopped above the limit of {self.limit_s:.0f} s"
        values = {"error": what, "log": log[-1500:]}
        self.results.append(part, case or "(part)", "stopped", self.device, values)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
