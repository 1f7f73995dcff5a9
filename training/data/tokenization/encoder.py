"""Encoding of text in pieces, so that supervision begins and ends exactly at token boundaries.

A row consists of pieces, which are encoded separately, as at inference: the model receives the
encoded prompt and then generates the answer. Encoding the complete row at once would allow a token
to span prompt and answer. Some tokenizers add a space before a text that is encoded alone, so a
later piece is encoded after an anchor, whose tokens are removed again.

If possible an `Encoder` holds no Transformers object, so that worker processes start quickly.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = npt.NDArray[np.int32]
"""Token ids, or labels."""
_NONE = np.zeros(0, dtype=np.int32)
_ANCHORS = ("\n", "\x02", "a")
_LONGEST_PIECE = 50_000
"""Characters encoded at once; some tokenizers take superlinear time."""
_MARK = ("\ue010", "\ue011")
_MARKED = re.compile(f"{_MARK[0]}([0-9]+){_MARK[1]}")
_ESCAPED_MARK = f"{_MARK[0]}x{_MARK[1]}"
"""Replaces the first character of a mark in the data, such as an icon of a font."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Piece of a row.

    Attributes:
        text: Text of the piece.
        supervised: Whether it is trained on.
    """

    text: str
    supervised: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """Part of a piece that is encoded at once, after its anchor; `literal`: as plain text."""

    text: str
    literal: bool
    anchor: str


class Encoder:
    """Encoder of pieces with one tokenizer.

    Attributes:
        bos_id: Begin-of-text id of rows; None if the tokenizer does not add one.
        eos_id: End-of-text id; None if the tokenizer has none.
        bos: Text of the begin-of-text token.
        eos: Text of the end-of-text token.
        control: Control tokens, which content must not be able to produce.
        closing_ids: Ids of control tokens that may end a turn.
        longest_token: Characters of the longest token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._backend: Any = backend
        self._whole: Any = None if backend is not None else tokenizer
        self.eos_id: int | None = tokenizer.eos_token_id
        self.eos: str = str(tokenizer.eos_token or "")
        self.bos_id, self.bos = self._begin(tokenizer)
        self.control: tuple[str, ...] = _control_tokens(tokenizer)
        not_ends = {str(tokenizer.unk_token), str(tokenizer.bos_token)} - {self.eos}
        self.closing_ids: frozenset[int] = frozenset(
            found
            for token in self.control
            if token not in not_ends and (found := self.id_of(token)) is not None
        )
        self.longest_token = max(map(len, tokenizer.get_vocab()), default=1)
        self._unknown = str(tokenizer.unk_token or "")
        self._control_pattern = _any_of(self.control)
        self._bos_pattern = _any_of((self.bos,) if self.bos and self.bos != self.eos else ())
        self._heads: dict[tuple[str, bool], Tokens] = {}
        self._anchored = self._needs_anchor()

    @staticmethod
    def _begin(tokenizer: PreTrainedTokenizerBase) -> tuple[int | None, str]:
        begins = tokenizer("a")["input_ids"]
        bos_id = tokenizer.bos_token_id
        if bos_id is None or not begins or begins[0] != bos_id:
            return None, str(tokenizer.bos_token or "")
        return bos_id, str(tokenizer.bos_token)

    def _needs_anchor(self) -> bool:
        alone, behind = self._encode(["a a", "\x02a a"])
        return not np.array_equal(behind[len(self._encode(["\x02"])[0]) :], alone)

    def escape_control_tokens(
        self, text: str, *, only_bos: bool = False, allowed: Collection[str] = ()
    ) -> str:
        """Return `text` with its control tokens marked, so that they are encoded as plain text.

        Args:
            text: Content from the data, which must not be able to end a turn or begin a text.
            only_bos: Mark begin-of-text only, for texts that may contain their own markup.
            allowed: Control tokens that stay as they are, because the text may say them.
        """
        text = text.replace(_MARK[0], _ESCAPED_MARK)
        pattern = self._bos_pattern if only_bos else self._control_pattern
        if pattern is None or not pattern.search(text):
            return text
        return pattern.sub(
            lambda m: (
                m[0] if m[0] in allowed else f"{_MARK[0]}{self.control.index(m[0])}{_MARK[1]}"
            ),
            text,
        )

    def unescape_control_tokens(self, text: str) -> str:
        """Return `text` without the marks of `escape_control_tokens`."""
        text = _MARKED.sub(lambda m: self.control[int(m[1])], text)
        return text.replace(_ESCAPED_MARK, _MARK[0])

    def encode(self, rows: Sequence[Sequence[Piece]]) -> list[list[Tokens]]:
        """Return the ids of each piece of each row, without tokens that the text does not contain.

        Args:
            rows: Pieces in order; the pieces of a row are encoded as one continuous text.
        """
        parts: list[_Part] = []
        counts: list[list[int]] = []
        for row in rows:
            counts.append([])
            before = ""
            for index, piece in enumerate(row):
                split = list(self._parts(piece.text, before, opens=index == 0))
                parts += split
                counts[-1].append(len(split))
                before = piece.text or before
        encoded = iter(self._encode_parts(parts))
        return [[_joined(encoded, count) for count in row] for row in counts]

    def _parts(self, text: str, before: str, *, opens: bool) -> Iterator[_Part]:
        """Split a piece at its marks, and where it is too long to encode at once."""
        for index, chunk in enumerate(_MARKED.split(text)):
            literal = index % 2 == 1
            written = chunk if literal else chunk.replace(_ESCAPED_MARK, _MARK[0])
            for part in [self.control[int(chunk)]] if literal else _bounded(written):
                alone = opens or not self._anchored
                yield _Part(part, literal, "" if alone else self._anchor(before))
                before, opens = ("" if literal else part), False

    def _anchor(self, before: str) -> str:
        """Return the anchor of a part: the control token that it follows, or a line break."""
        ending = next((token for token in self.control if token and before.endswith(token)), None)
        return ending or _ANCHORS[0]

    def _encode_parts(self, parts: Sequence[_Part]) -> list[Tokens]:
        ids = [_NONE] * len(parts)
        for literal in (False, True):
            wanted = [i for i, part in enumerate(parts) if part.literal is literal and part.text]
            if not wanted:
                continue
            texts = [parts[i].anchor + parts[i].text for i in wanted]
            for i, one in zip(wanted, self._encode(texts, literal=literal), strict=True):
                ids[i] = self._remove_anchor(one, parts[i]) if parts[i].anchor else one
        return ids

    def _remove_anchor(self, encoded: Tokens, part: _Part) -> Tokens:
        """Return the ids of a part from its encoding after an anchor.

        If the anchor merged with the text into one token, other anchors are tried.
        """
        for anchor in (part.anchor, *_ANCHORS):
            whole = encoded
            if anchor != part.anchor:
                whole = self._encode([anchor + part.text], literal=part.literal)[0]
            head = self._head(anchor, literal=part.literal)
            if np.array_equal(whole[: len(head)], head):
                return whole[len(head) :]
        return self._encode([part.text], literal=part.literal)[0]

    def _head(self, anchor: str, *, literal: bool) -> Tokens:
        key = (anchor, literal)
        if key not in self._heads:
            self._heads[key] = self._encode([anchor], literal=literal)[0]
        return self._heads[key]

    def _encode(self, texts: list[str], *, literal: bool = False) -> list[Tokens]:
        if self._backend is None:
            ids = self._whole(texts, add_special_tokens=False, split_special_tokens=literal)[
                "input_ids"
            ]
            return [np.array(one, dtype=np.int32) for one in ids]
        # The backend keeps truncation and padding of the last call by Transformers.
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = literal
        try:
            encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        finally:
            self._backend.encode_special_tokens = False
        return [np.array(one.ids, dtype=np.int32) for one in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, control tokens included."""
        if self._backend is None:
            return str(self._whole.decode(list(ids), skip_special_tokens=False))
        return str(self._backend.decode(list(ids), skip_special_tokens=False))

    @property
    def special_tokens(self) -> dict[int, str]:
        """Special tokens by id, without that of unknown words."""
        return {
            id_: token
            for token in self.control
            if token and token != self._unknown and (id_ := self.id_of(token)) is not None
        }

    def id_of(self, token: str) -> int | None:
        """Return the id of a token; None if the vocabulary does not contain it."""
        if self._backend is None:
            token_id: int | None = self._whole.get_vocab().get(token)
            return token_id
        single: int | None = self._backend.token_to_id(token)
        return single


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the special tokens, without ordinary tokens that were added to the vocabulary."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {str(token) for token in added.values() if getattr(token, "special", False)}
    return tuple(sorted(special | {str(token) for token in tokenizer.all_special_tokens}))


def _any_of(tokens: Sequence[str]) -> re.Pattern[str] | None:
    longest_first = sorted((t for t in tokens if t), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _joined(encoded: Iterator[Tokens], count: int) -> Tokens:
    return np.concatenate([next(encoded) for _ in range(count)])


def _bounded(text: str) -> Iterator[str]:
    """Yield a long text in parts, cut at line ends, else at spaces, else anywhere."""
    start = 0
    while len(text) - start > _LONGEST_PIECE:
        limit = start + _LONGEST_PIECE
        cut = text.rfind("\n", start + _LONGEST_PIECE // 2, limit)
        if cut < 0:
            cut = text.rfind(" ", start + _LONGEST_PIECE // 2, limit)
        cut = cut if cut > 0 else limit
        yield text[start:cut]
        start = cut
    yield text[start:]


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a digest of everything that determines a tokenizer's ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
        content = backend.to_str()
    else:
        content = json.dumps(tokenizer.get_vocab(), sort_keys=True) + repr(tokenizer)
    specials = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    return hashlib.sha256(f"{type(tokenizer).__name__}{specials}{content}".encode()).hexdigest()
