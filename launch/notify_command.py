"""Command of the user's own that runs when a run on this machine has ended.

It is a variable of the environment and no key of the job, so that a job file from elsewhere
cannot start a program here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from catalog.exit_codes import STOPPED

VARIABLE = "TEMPER_NOTIFY_COMMAND"
_TIMEOUT_S = 60


def notify(run: str, code: int) -> None:
    """Run the command in `TEMPER_NOTIFY_COMMAND` by the shell, if it is set.

    The command gets `TEMPER_RUN`, `TEMPER_STATE` (completed, failed or stopped) and
    `TEMPER_EXIT_CODE`. Its own failure is a warning: the run's exit code stays.

    Args:
        run: `<name>/<run id>`.
        code: Exit code of the run.
    """
    command = os.environ.get(VARIABLE, "")
    if not command:
        return
    state = {0: "completed", STOPPED: "stopped", 128 + signal.SIGINT: "stopped"}.get(code, "failed")
    variables = {"TEMPER_RUN": run, "TEMPER_STATE": state, "TEMPER_EXIT_CODE": str(code)}
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            env={**os.environ, **variables},
            timeout=_TIMEOUT_S,
            check=False,
        )
        problem = f"ended with code {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = f"did not end within {_TIMEOUT_S} s"
    if problem:
        sys.stderr.write(f"warning: {VARIABLE} {problem}: {command}\n")
