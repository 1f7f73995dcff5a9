"""Progress of training on the console: a bar on a terminal, lines of text elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from training.step_metrics import LOGGED_METRICS
from training.tracking.progress_lines import clock, progress_line


class ProgressDisplay(Protocol):
    """Interface of a display of the progress of a run."""

    def begin(self, step: int) -> None:
        """Start the display; `step` steps are done."""

    def advance(self, step: int) -> None:
        """Set the number of steps that are done."""

    def show(self, metrics: Mapping[str, Any], eta_s: float) -> None:
        """Show the metrics of a logged step and the estimated seconds that remain."""

    def print(self, line: str) -> None:
        """Print a line that stays visible, such as the result of an evaluation."""

    def end(self) -> None:
        """Stop the display; may be called repeatedly, and without `begin`."""


def progress_display_for(stream: TextIO, max_steps: int) -> ProgressDisplay:
    """Return a progress bar for a terminal, else lines that programs can parse."""
    plain = os.environ.get("CI") or os.environ.get("TERM") in ("dumb", "")
    return (
        PlainProgress(stream, max_steps)
        if plain or not stream.isatty()
        else ProgressBar(stream, max_steps)
    )


class PlainProgress:
    """Display that prints one line per logged step.

    Args:
        stream: Output stream.
        max_steps: Length of the run.
    """

    def __init__(self, stream: TextIO, max_steps: int):
        self.stream = stream
        self.max_steps = max_steps

    def begin(self, step: int) -> None:
        """Print nothing; the first line comes with the first logged step."""

    def advance(self, step: int) -> None:
        """Print nothing; not every step is logged."""

    def show(self, metrics: Mapping[str, Any], eta_s: float) -> None:
        """Print the line of a logged step."""
        self.print(progress_line(metrics, self.max_steps, eta_s))

    def print(self, line: str) -> None:
        """Print a line and flush, so that logs arrive while training runs."""
        self.stream.write(line + "\n")
        self.stream.flush()

    def end(self) -> None:
        """Print nothing."""


class ProgressBar:
    """Progress bar at the bottom of a terminal; other lines scroll above it.

    Args:
        stream: A terminal.
        max_steps: Length of the run.
    """

    def __init__(self, stream: TextIO, max_steps: int):
        # Imported here: other ranks, and machines without a terminal, never need it.
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
            # Warnings of libraries go to the log file of the run, not to this terminal.
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=max_steps, facts="")

    def begin(self, step: int) -> None:
        """Draw the bar."""
        self._progress.update(self._task, completed=step, facts="before the first step …")
        self._progress.start()

    def advance(self, step: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step)

    def show(self, metrics: Mapping[str, Any], eta_s: float) -> None:
        """Show the metrics of a logged step next to the bar."""
        parts = [m.bar.format(metrics[m.key]) for m in LOGGED_METRICS if m.bar]
        facts = " · ".join([*parts, f"{clock(eta_s)} left"])
        self._progress.update(self._task, completed=metrics["step"], facts=facts)

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)

    def end(self) -> None:
        """Stop drawing and restore the cursor; the bar stays visible."""
        self._progress.stop()


def restore_terminal() -> None:
    """Show the cursor again and start a new line, after a process with a bar was killed."""
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h\n")
        sys.stdout.flush()
