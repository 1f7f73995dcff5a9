"""Parser of Slurm's host lists: `node[01-03,7],login` is short for five names."""

from __future__ import annotations

import re
from collections.abc import Iterator

_RANGES = re.compile(r"^(?P<before>[^\[]*)\[(?P<ranges>[^\]]+)\](?P<after>.*)$")


def expand_hostlist(text: str) -> list[str]:
    """Return the host names of a Slurm host list, in its order."""
    return [name for part in _parts(text) for name in _expand_one(part)]


def _parts(text: str) -> Iterator[str]:
    """Yield the parts between the commas that are outside brackets."""
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
    match = _RANGES.match(part)
    if match is None:
        yield part
        return
    for piece in match["ranges"].split(","):
        first, _, last = piece.partition("-")
        for number in range(int(first), int(last or first) + 1):
            name = f"{match['before']}{number:0{len(first)}d}{match['after']}"
            yield from _expand_one(name)
