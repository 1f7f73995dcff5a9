"""Text of single tokens, for log-probabilities."""

from __future__ import annotations

import re
from typing import Any

_INCOMPLETE = "\ufffd"
_BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


class TokenTexts:
    r"""Texts of a tokenizer's tokens, with the space that a token begins with.

    A token that is a part of a character is written as `bytes:\xe2\x82`, as OpenAI does, so that
    different tokens have different texts.

    Args:
        tokenizer: Tokenizer of the model.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._anchor: list[int] = list(tokenizer("a", add_special_tokens=False)["input_ids"][-1:])
        self._anchor_text = str(tokenizer.decode(self._anchor))
        self._found: dict[int, tuple[str, bytes]] = {}

    def __getitem__(self, token: int) -> str:
        """Return the text of a token, also of a special one."""
        return self._look_up(token)[0]

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes of a token in UTF-8."""
        return self._look_up(token)[1]

    def _look_up(self, token: int) -> tuple[str, bytes]:
        if token not in self._found:
            # Some decoders remove the space at the beginning of a text, so another token is before.
            text = str(self._tokenizer.decode([*self._anchor, token]))
            text = text.removeprefix(self._anchor_text)
            raw = text.encode()
            if _INCOMPLETE in text:
                raw = _raw_bytes(str(self._tokenizer.convert_ids_to_tokens(token))) or raw
                if raw.decode(errors="replace").count(_INCOMPLETE):
                    text = "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
            self._found[token] = text, raw
        return self._found[token]


def _raw_bytes(piece: str) -> bytes | None:
    """Return the bytes of a piece of a vocabulary; None if its form is not known.

    SentencePiece writes `<0xE2>`; a byte-level vocabulary writes each byte as a character.
    """
    if match := _BYTE_FALLBACK.fullmatch(piece):
        return bytes([int(match[1], 16)])
    bytes_of = [_BYTE_LEVEL.get(character) for character in piece]
    known = [byte for byte in bytes_of if byte is not None]
    return bytes(known) if len(known) == len(bytes_of) else None


def _byte_level_characters() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for, as in GPT-2."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(0x100) if byte not in printable)
    shifted = {chr(0x100 + place): byte for place, byte in enumerate(others)}
    return {**{chr(byte): byte for byte in printable}, **shifted}


_BYTE_LEVEL = _byte_level_characters()
