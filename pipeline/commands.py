"""Commands that a pipeline runs: their output is shown and kept, their signals are forwarded."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from catalog.exit_codes import STOPPED
from training.errors import Interrupted, RunError
from training.parent_death import signal_on_parent_death

_STEP = re.compile(r"step\s+\d+/\d+ ")
_STEPS_EVERY_S = 10.0


@dataclass(frozen=True)
class CommandRunner:
    """Runner of the commands of a pipeline.

    Attributes:
        say: Prints a line to the user.
        environment: Further environment variables.
    """

    say: Callable[[str], None]
    environment: Mapping[str, str]

    def temper(self, log: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
        """Run `temper …` and return its output.

        Args:
            log: File to which its output is appended.
            arguments: Arguments of the command.
            allowed: Exit codes that are no failure.

        Raises:
            RunError: It failed.
            Interrupted: It was stopped.
        """
        self.say(f"  $ temper {shlex.join(arguments)}")
        return self.run(log, "-m", "temper", *arguments, allowed=allowed)

    def run(self, log: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
        """Run Python with arguments and return the output; see `temper`.

        Args:
            log: File to which its output is appended.
            arguments: Arguments of Python.
            allowed: Exit codes that are no failure.

        Raises:
            RunError: It failed.
            Interrupted: It was stopped.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            lines, code = self._stream(arguments, file.write)
        if code in allowed:
            return "".join(lines)
        if code in (STOPPED, 130) or code < 0:
            raise Interrupted("stopped; the same command resumes at this step")
        message = "".join(lines[-12:]).strip() or f"exit code {code}"
        error = RunError(message)
        error.exit_code = code
        raise error

    def _stream(
        self, arguments: tuple[str, ...], write: Callable[[str], object]
    ) -> tuple[list[str], int]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C is for the pipeline, which stops its command once
            preexec_fn=partial(signal_on_parent_death, signal.SIGTERM),
        )
        assert process.stdout is not None
        lines: list[str] = []
        stopping, shown = False, 0.0
        while True:
            try:
                for line in process.stdout:
                    lines.append(line)
                    write(line)
                    if not _STEP.match(line):
                        self.say(f"    {line.rstrip()}")
                    elif time.monotonic() - shown >= _STEPS_EVERY_S:
                        shown = time.monotonic()
                        self.say(f"    {line.rstrip()}")
                return lines, process.wait()
            except KeyboardInterrupt:
                if stopping:
                    raise
                stopping = True
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)
