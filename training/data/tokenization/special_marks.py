"""Brackets around special tokens in a mask preview and in a report, which needs no numpy."""

from __future__ import annotations

from collections.abc import Sequence

_SPECIAL = ("⟨", "⟩")


def mark_specials(
    segments: Sequence[tuple[str, bool]], specials: Sequence[tuple[int, int, int]]
) -> list[tuple[str, bool]]:
    """Return segments with brackets around special tokens.

    Args:
        segments: Segments of a preview.
        specials: Segment, start and stop of each special token.
    """
    marked = []
    for number, (text, learned) in enumerate(segments):
        parts, at = [], 0
        for segment, start, stop in specials:
            if segment == number:
                parts += [text[at:start], _SPECIAL[0], text[start:stop], _SPECIAL[1]]
                at = stop
        marked.append(("".join([*parts, text[at:]]), learned))
    return marked
