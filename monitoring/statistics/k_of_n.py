"""Alarm on k of the last n windows, so that one odd window is no alarm."""

from __future__ import annotations

import re
from collections.abc import Sequence

from monitoring.errors import WatchError

_RULE = re.compile(r"(\d+)\s*(?:of|/)\s*(\d+)")


def parse_rule(text: str) -> tuple[int, int]:
    """Return k and n of a rule such as `2 of 3`.

    Raises:
        WatchError: It is none.
    """
    match = _RULE.fullmatch(text.strip())
    k, n = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= k <= n:
        raise WatchError(f"--alarm {text}: write for instance 2/3, for 2 of the last 3 windows")
    return k, n


def alarms(flags: Sequence[bool | None], k: int, n: int) -> list[bool]:
    """Return for each window whether k of the last n windows with calls are flagged.

    Args:
        flags: Whether each window is flagged; None of one with too few calls, which does not count.
        k: Number of flagged windows.
        n: Number of windows.
    """
    raised: list[bool] = []
    last: list[bool] = []
    for flag in flags:
        if flag is not None:
            last = [*last, flag][-n:]
        raised.append(flag is not None and sum(last) >= k)
    return raised
