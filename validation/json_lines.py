"""Lines of JSON Lines."""

from __future__ import annotations


def split_lines(text: str) -> list[str]:
    r"""Return the lines of a text in JSON Lines, without blank ends.

    `str.splitlines` also cuts at U+2028, U+2029 and U+0085, which strings in JSON may hold as they
    are: only a line feed ends a line (https://jsonlines.org).

    Args:
        text: Content of the file.
    """
    lines = text.removesuffix("\n").split("\n")
    return [] if lines == [""] else lines
