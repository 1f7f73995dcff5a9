"""Checks of the doctor, and the results of running them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from training.errors import TemperError

Outcome = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class CheckResult:
    """Result of one check, one line of the doctor's table.

    Attributes:
        check: Name of the check.
        outcome: `skipped` if the check could not be made; neither that nor a `warning` counts as a
            failure.
        detail: What was found, or why the check was skipped.
        fix: Command that fixes the problem; empty if there is none.
    """

    check: str
    outcome: Outcome
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Check:
    """One check of the machine or the account.

    Attributes:
        name: Name in a word or two.
        run: Returns what was found; raises `CheckWarning`, `CheckFailed` or `Skipped`.
        needs: Name of a check without whose success this one is skipped.
    """

    name: str
    run: Callable[[], str]
    needs: str = ""


class CheckFailed(Exception):  # noqa: N818 (a finding about the machine, not a program error)
    """Finding of a check: something is not as it must be.

    Args:
        detail: What is wrong, with the value.
        fix: Command that fixes it.
    """

    def __init__(self, detail: str, fix: str):
        super().__init__(detail)
        self.detail, self.fix = detail, fix


class CheckWarning(Exception):  # noqa: N818 (a finding, not a program error)
    """Finding of a check that prevents no run, and that people should know.

    Args:
        detail: What was found, with the value.
        fix: Command that improves it; empty if none is needed.
    """

    def __init__(self, detail: str, fix: str = ""):
        super().__init__(detail)
        self.detail, self.fix = detail, fix


class Skipped(Exception):  # noqa: N818 (a finding, not a program error)
    """The check could not be made, for the reason given."""


def run_checks(checks: list[Check]) -> Iterator[CheckResult]:
    """Run checks in order and yield each result as soon as it is known."""
    failed: set[str] = set()
    for check in checks:
        if check.needs in failed:
            failed.add(check.name)
            yield CheckResult(check.name, "skipped", f"needs: {check.needs}")
            continue
        try:
            yield CheckResult(check.name, "ok", check.run())
        except Skipped as reason:
            yield CheckResult(check.name, "skipped", str(reason))
        except CheckWarning as warning:
            yield CheckResult(check.name, "warning", warning.detail, warning.fix)
        except CheckFailed as problem:
            failed.add(check.name)
            yield CheckResult(check.name, "failed", problem.detail, problem.fix)
        except TemperError as error:
            failed.add(check.name)
            yield CheckResult(check.name, "failed", str(error))
