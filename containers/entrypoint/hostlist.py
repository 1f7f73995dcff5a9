"""Slurm's short form of many host names: `node[01-03,7],login` stands for five."""

from __future__ import annotations

import re
from collections.abc import Iterator

_RANGES = re.compile(r"^(?P<before>[^\[]*)\[(?P<ranges>[^\]]+)\](?P<after>.*)$")


def expand(text: str) -> list[str]:
    """Return the names that a Slurm host list stands for, in its order."""
    return [name for part in _parts(text) for name in _expand_one(part)]


def _parts(text: str) -> Iterator[str]:
    """Yield what stands between the commas outside of brackets."""
    depth, part = 0, ""
    for letter in text:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            yield part
            part = ""
        else:
            part += letter
    if part:
        yield part


def _expand_one(part: str) -> Iterator[str]:
    found = _RANGES.match(part)
    if found is None:
        yield part
        return
    for piece in found["ranges"].split(","):
        first, _, last = piece.partition("-")
        for number in range(int(first), int(last or first) + 1):
            name = f"{found['before']}{number:0{len(first)}d}{found['after']}"
            yield from _expand_one(name)
