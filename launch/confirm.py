"""Confirmation by the user before something is paid for, stopped or deleted."""

from __future__ import annotations

import os
import sys

from launch.errors import NotConfirmed


def confirm(question: str) -> None:
    """Ask a question and return if the user agrees; `YES=1` agrees to everything, for scripts.

    Raises:
        NotConfirmed: The user declined, or standard input is not a terminal.
    """
    if os.environ.get("YES", "") not in ("", "0"):
        return
    if not sys.stdin.isatty():
        raise NotConfirmed(
            f"{question} There is no terminal to ask on: set the variable YES=1 to agree"
        )
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("not confirmed: nothing was started, paid for or deleted")


def accept_license(license_: str, *, accepted: bool) -> None:
    """Ask whether a license is accepted, and return if it is; `YES=1` accepts none.

    Args:
        license_: Name or address of the license.
        accepted: Whether the user accepted it on the command line.

    Raises:
        NotConfirmed: The user did not accept it, or there is no terminal to ask on.
    """
    if accepted:
        return
    if not sys.stdin.isatty():
        raise NotConfirmed(
            f"the model has a license that must be accepted: {license_}. Read it, and add "
            "--accept-eula"
        )
    sys.stderr.write(f"The model has a license: {license_}. Do you accept it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("the license was not accepted: nothing was started")
