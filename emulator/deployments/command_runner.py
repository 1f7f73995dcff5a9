"""Commands of a rehearsal: run in this process, in the emulated account, while its clock moves."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

from deployment.polling import Polling, polling_by
from emulator.environment import EmulatedEnvironment
from launch.errors import LaunchError
from training.environment_variables import environment_variables

Main = Callable[[list[str]], int]
"""Runs a command line and returns its exit code."""
_SHOWN = {"register": 1, "promote": 0}
"""Number of lines of the output that are shown, for commands whose output is not the point."""
_QUOTE = "  "
"""Beginning of the lines with the price, which a swap repeats."""


class InProcessRunner:
    """Runner of `temper` commands.

    While a command waits for AWS, the emulated clock advances instead: hours pass at once.

    Args:
        environment: Emulated environment.
        main: The command line.
        print_line: Prints a line to the user.
    """

    def __init__(
        self, environment: EmulatedEnvironment, main: Main, print_line: Callable[[str], None]
    ):
        self._environment, self._main, self._print = environment, main, print_line

    def run(self, *arguments: str, code: int = 0, show: bool = True) -> str:
        """Run `temper …`, print it with its output, and return the output.

        Args:
            arguments: Arguments of the command line.
            code: Exit code that it must have.
            show: Whether anything is printed.

        Raises:
            LaunchError: It has another exit code.
        """
        environment = self._environment
        shown = " ".join(("temper", *arguments))
        if show:
            self._print(f"$ {shown}")
        output = io.StringIO()
        polling = Polling(sleep=environment.advance, now=environment.clock.now)
        variables = {
            **environment.variables,
            "YES": "1",
            "COLUMNS": "160",
            "TEMPER_REGISTRY": str(environment.work / "model-registry"),
        }
        with (
            environment_variables(variables),
            polling_by(polling),
            redirect_stdout(output),
            redirect_stderr(output),
        ):
            ended = self._main([*arguments, "--env", environment.environment.name])
        text = output.getvalue()
        if ended != code:
            raise LaunchError(f"{shown} ended with {ended} instead of {code}:\n{text}")
        if show:
            for line in text.splitlines()[: _SHOWN.get(arguments[0])]:
                if arguments[0] != "swap" or not line.startswith(_QUOTE):
                    self._print(f"  {line}")
        return text
