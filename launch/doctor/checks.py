"""What a check found: fine, or what is wrong and the command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from training.errors import TemperError

Verdict = Literal["ok", "wrong", "not asked"]


@dataclass(frozen=True)
class CheckResult:
    """One line of the doctor's.

    Attributes:
        check: What was looked at, in a word or two.
        verdict: `not asked` is for what could not be looked at, and why; it fails nothing.
        detail: What was seen.
        fix: The command that mends it; empty where nothing is wrong.
    """

    check: str
    verdict: Verdict
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes:
        name: In a word or two.
        look: Returns what is seen; raises `Wrong` or `NotAsked`.
        needs: The check without which this one makes no sense.
    """

    name: str
    look: Callable[[], str]
    needs: str = ""


class CheckFailed(Exception):  # noqa: N818 (an answer, not a fault of ours)
    """Something is not as it must be.

    Args:
        detail: What is wrong, with the value.
        fix: The command that mends it.
    """

    def __init__(self, detail: str, fix: str):
        super().__init__(detail)
        self.detail, self.fix = detail, fix


class Skipped(Exception):  # noqa: N818 (likewise)
    """Something could not be looked at, for the reason given."""


def run_checks(checks: list[Check]) -> Iterator[CheckResult]:
    """Yield what each check finds, as it is found."""
    failed: set[str] = set()
    for check in checks:
        if check.needs in failed:
            failed.add(check.name)
            yield CheckResult(check.name, "not asked", f"needs: {check.needs}")
            continue
        try:
            yield CheckResult(check.name, "ok", check.look())
        except Skipped as reason:
            yield CheckResult(check.name, "not asked", str(reason))
        except CheckFailed as wrong:
            failed.add(check.name)
            yield CheckResult(check.name, "wrong", wrong.detail, wrong.fix)
        except TemperError as error:
            failed.add(check.name)
            yield CheckResult(check.name, "wrong", str(error))
