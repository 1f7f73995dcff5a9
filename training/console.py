"""Console output of single lines, unbuffered."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Print `line` and flush, so that it is seen when it happens even through a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
