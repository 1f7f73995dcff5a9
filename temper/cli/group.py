"""Behavior common to all commands: repeated options, exit codes, errors as messages."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from typer.core import TyperGroup

from temper.cli.extras import missing_extra
from training.errors import TemperError

_KEY_VALUE_OPTIONS = ("--set", "--columns")
_INTERRUPTED = 130
"""The exit code of a process that Ctrl-C ended: 128 + SIGINT."""


class CommandGroup(TyperGroup):
    """Group of commands that end with the exit code of their work, and never with a traceback.

    A command returns its exit code, or raises a `TemperError` that carries one.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments, in which `--set` may be followed by several KEY=VALUE pairs."""
        return super().parse_args(ctx, repeat_option(args))

    def invoke(self, ctx: Any) -> Any:
        """Run a command and exit with its code.

        Raises:
            ModuleNotFoundError: A module is missing that no extra installs.
        """
        try:
            code = super().invoke(ctx)
        except TemperError as error:
            sys.stderr.write(f"{error}\n")
            code = error.exit_code
        except ModuleNotFoundError as error:
            if not (message := missing_extra(error.name or "")):
                raise
            sys.stderr.write(f"{message}\n")
            code = TemperError.exit_code
        except KeyboardInterrupt:
            code = _INTERRUPTED
        ctx.exit(code if isinstance(code, int) else 0)


def repeat_option(arguments: Iterable[str]) -> list[str]:
    """Return arguments with `--set a=1 b=2` written as `--set a=1 --set b=2`.

    Click gives an option a fixed number of values. Only values with an equals sign follow the
    first one, so an argument after `--set a=1` remains an argument.
    """
    repeated: list[str] = []
    option = ""
    for position, argument in enumerate(arguments := list(arguments)):
        if argument.startswith("-"):
            option = argument if argument in _KEY_VALUE_OPTIONS else ""
        elif option and "=" not in argument:
            option = ""
        elif option and arguments[position - 1] != option:
            repeated.append(option)
        repeated.append(argument)
    return repeated
