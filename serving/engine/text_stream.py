"""Text of an answer while its tokens arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_INCOMPLETE = "\ufffd"
"""Character that decoders write for a character of which bytes are missing."""


class TextStream:
    """Decoder that returns the text of an answer in parts, whose sum is the text of all tokens.

    Text is held back while a character is incomplete, or while it may begin a stop text.

    Args:
        tokenizer: Tokenizer of the model.
        stop: Texts that end the answer; they are not part of it.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()):
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._context, self._read = 0, 0  # places in the ids: of the context, of what is decoded
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Return the text that a token adds; empty while it is held back, and after a stop."""
        self._ids.append(token)
        before = self._decode(self._context, self._read)
        after = self._decode(self._context, len(self._ids))
        if after.endswith(_INCOMPLETE) and len(self._ids) - self._read < 8:
            return ""
        if len(after) > len(before):
            # Some decoders remove the space at the beginning of a text: the context has some text.
            self._context = self._read
        self._read = len(self._ids)
        return self._release(after[len(before) :])

    def finish(self) -> str:
        """Return what is held back when the answer has ended."""
        if self.stopped:
            return ""
        before = self._decode(self._context, self._read)
        rest = self._held + self._decode(self._context, len(self._ids))[len(before) :]
        self._held, self._read = "", len(self._ids)
        at = self._first_stop(rest)
        self.stopped = at is not None
        return rest[:at]

    def _decode(self, start: int, end: int) -> str:
        return str(self._tokenizer.decode(self._ids[start:end], skip_special_tokens=True))

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        at = self._first_stop(text)
        if at is not None:
            self.stopped, self._held = True, ""
            return text[:at]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _first_stop(self, text: str) -> int | None:
        places = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        return min(places, default=None)


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of a text that begins a stop text."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
