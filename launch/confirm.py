"""Asking a person before something is paid for, stopped or deleted."""

from __future__ import annotations

import os
import sys

from launch.errors import NotConfirmed


def confirm(question: str) -> None:
    """Return if the person agrees; `YES=1` agrees to everything, for scripts.

    Raises:
        NotConfirmed: They did not, or there is nobody to ask.
    """
    if os.environ.get("YES", "") not in ("", "0"):
        return
    if not sys.stdin.isatty():
        raise NotConfirmed(f"{question} There is nobody to ask here: add YES=1 to agree")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("not done: nothing was started, paid for or deleted")
