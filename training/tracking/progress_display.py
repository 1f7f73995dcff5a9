"""What a person watches while a model trains: a progress bar on a terminal, else lines of text."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from training.tracking.progress_lines import clock, progress_line


class ProgressDisplay(Protocol):
    """Shows where a run stands."""

    def begin(self, step: int) -> None:
        """Training begins, or goes on after `step` steps."""

    def took(self, step: int) -> None:
        """Step `step` was taken."""

    def logged(self, metrics: Mapping[str, Any], seconds_left: float) -> None:
        """A step's numbers are known."""

    def say(self, line: str) -> None:
        """Something to keep in sight, such as a held-out loss."""

    def end(self) -> None:
        """No more steps come; may be called more than once, or without a beginning."""


def progress_display_for(stream: TextIO, max_steps: int) -> ProgressDisplay:
    """Return a bar where a person sits at a terminal, else lines that programs can read."""
    plain = os.environ.get("CI") or os.environ.get("TERM") in ("dumb", "")
    return (
        PlainProgress(stream, max_steps)
        if plain or not stream.isatty()
        else ProgressBar(stream, max_steps)
    )


class PlainProgress:
    """One line for each logged step.

    Args:
        stream: Where to.
        max_steps: Length of the run.
    """

    def __init__(self, stream: TextIO, max_steps: int):
        self.stream = stream
        self.max_steps = max_steps

    def begin(self, step: int) -> None:
        """Print nothing: the first line comes with the first logged step."""

    def took(self, step: int) -> None:
        """Print nothing: not every step is logged."""

    def logged(self, metrics: Mapping[str, Any], seconds_left: float) -> None:
        """Print the step's line."""
        self.say(progress_line(metrics, self.max_steps, seconds_left))

    def say(self, line: str) -> None:
        """Print a line."""
        self.stream.write(line + "\n")
        self.stream.flush()

    def end(self) -> None:
        """Print nothing."""


class ProgressBar:
    """A progress bar that stays at the bottom while other lines scroll by above it.

    Args:
        stream: A terminal.
        max_steps: Length of the run.
    """

    def __init__(self, stream: TextIO, max_steps: int):
        # Imported where a terminal is there: other ranks and machines never need it.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(file=stream, highlight=False)
        self._progress = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[facts]}", markup=False),
            console=self._console,
            refresh_per_second=4,
            expand=True,
            # Libraries write their warnings to the log of the run, not to this terminal.
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=max_steps, facts="")

    def begin(self, step: int) -> None:
        """Draw the bar."""
        self._progress.update(self._task, completed=step, facts="before the first step …")
        self._progress.start()

    def took(self, step: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step)

    def logged(self, metrics: Mapping[str, Any], seconds_left: float) -> None:
        """Show the step's numbers beside the bar."""
        facts = (
            f"loss {metrics['loss']:.4f} · {metrics['tokens_per_second']:,.0f} tok/s · "
            f"{metrics['memory_gib']:.2f} GiB · {clock(seconds_left)} left"
        )
        self._progress.update(self._task, completed=metrics["step"], facts=facts)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)

    def end(self) -> None:
        """Leave the bar as it stands, and the terminal as it was."""
        self._progress.stop()


def restore_terminal() -> None:
    """Give the terminal its cursor and a fresh line back after a bar whose process was killed."""
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h\n")
        sys.stdout.flush()
