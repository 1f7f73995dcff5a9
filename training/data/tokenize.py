"""Rows to token ids and labels: what is learned is marked exactly, ends in EOS, and begins once.

A label is the token itself where it is learned and `IGNORE` where it is not. The first label of a
row is always `IGNORE`: nothing comes before it that could predict it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.config.methods import RowKind
from training.data import templates
from training.data.encoder import Encoder, Piece
from training.data.records import BadRecord
from training.data.rows import CompletionRow, DialogueRow, Message, Row, RowError, TextRow
from training.data.templates import Template
from training.errors import DataError

IGNORE = -100
LossOn = Literal["assistant", "completion", "all"]
Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A row ready to learn from.

    Attributes:
        id: The source row it is, or the part of it: `book.parquet:3#2`.
        input_ids: Token ids, at most `max_length`.
        labels: Of the same length; `IGNORE` where nothing is learned.
        truncated: Whether tokens were cut off its end.
    """

    id: str
    input_ids: Tokens
    labels: Tokens
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was read and has nothing to learn.

    Attributes:
        id: The source row.
        reason: Why.
        needed: The `max_length` from which on it would have something to learn; 0 when none would.
    """

    id: str
    reason: str
    needed: int = 0


Outcome = list[TokenRow] | Dropped | BadRecord
"""What became of one row: its parts (one, but for long texts), or why it has none."""


@dataclass(frozen=True)
class RowTokenizer:
    """Turns rows into tokens for one run.

    Attributes:
        encoder: Of the run's tokenizer.
        template: The chat template, when there is one.
        want: `text` learns every token; `dialogue` learns what `loss_on` says.
        loss_on: Which part of a dialogue is learned.
        max_length: Longest row, in tokens. Texts are cut into rows of it, dialogues end at it.
    """

    encoder: Encoder
    template: Template | None
    want: RowKind
    loss_on: LossOn
    max_length: int

    def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return what became of each row, in order.

        Raises:
            DataError: A conversation cannot be written without a template, or with this one.
        """
        written: list[list[Piece] | Dropped | BadRecord] = [self._write(row) for row in rows]
        todo = [pieces for pieces in written if isinstance(pieces, list)]
        encoded = iter(self.encoder.encode(todo))
        outcomes: list[Outcome] = []
        for row, pieces in zip(rows, written, strict=True):
            if not isinstance(pieces, list):
                outcomes.append(pieces)
                continue
            ids = next(encoded)
            if isinstance(row, TextRow) or self.want == "text":
                outcomes.append(self._chunks(row.id, [i for part in ids for i in part]))
            else:
                outcomes.append(self._dialogue(row.id, pieces, ids))
        return outcomes

    def _write(self, row: Row) -> list[Piece] | Dropped | BadRecord:
        try:
            return self._pieces(row)
        except RowError as fault:
            return BadRecord(row.id, str(fault))

    def _pieces(self, row: Row) -> list[Piece] | Dropped:
        if isinstance(row, TextRow):
            if not row.text.strip():
                return Dropped(row.id, "the text is empty")
            return [Piece(self._plain(row.text), True)]
        if isinstance(row, CompletionRow):
            if self.template is None:
                return self._completion(row)
            return self._conversation(_as_dialogue(row))
        if isinstance(row, DialogueRow):
            return self._conversation(row)
        raise DataError(f"{row.id}: this method does not learn from {type(row).__name__} rows")

    def _completion(self, row: CompletionRow) -> list[Piece]:
        prompt = self._plain(row.prompt)
        completion = self._plain(row.completion).removesuffix(self.encoder.eos or "\0")
        if prompt and not prompt[-1].isspace() and not completion[:1].isspace():
            prompt += "\n"
        return (
            [Piece(prompt, False), Piece(completion, True)] if prompt else [Piece(completion, True)]
        )

    def _plain(self, text: str) -> str:
        """Return text whose own markup counts, but for a begin-of-text token."""
        return self.encoder.as_text(text.removeprefix(self.encoder.bos or "\0"), only_bos=True)

    def _conversation(self, row: DialogueRow) -> list[Piece] | Dropped:
        if self.template is None:
            raise DataError(
                f"{row.id}: this is a conversation, and the tokenizer has no chat template to "
                "write it with. Choose one: model.chat_template: chatml "
                f"(of {', '.join(templates.NAMES)})"
            )
        answers = sum(m["role"] == "assistant" for m in row.messages[row.answers_from :])
        if not answers:
            return Dropped(row.id, "the assistant says nothing in it")
        pieces = templates.render(self.template, row.messages, row.tools, self.encoder)
        if self.loss_on == "completion":
            answers = 1
        said = [index for index, piece in enumerate(pieces) if piece.supervised]
        context = set(said[: len(said) - answers])
        pieces = [Piece(p.text, p.supervised and i not in context) for i, p in enumerate(pieces)]
        if self.loss_on == "all" or self.want == "text":
            last = len(pieces) if pieces[-1].text.strip() else said[-1] + 1
            return [Piece(piece.text, True) for piece in pieces[:last]]
        return pieces[: said[-1] + 1]

    def _chunks(self, id_: str, ids: list[int]) -> list[TokenRow]:
        """Cut a text into rows of `max_length`; all its tokens are in exactly one of them.

        A row that goes on with a text has no way to predict its own first token.
        """
        body = self._without_bos(ids)
        if self.encoder.eos_id is not None and (not body or body[-1] != self.encoder.eos_id):
            body.append(self.encoder.eos_id)
        head = [] if self.encoder.bos_id is None else [self.encoder.bos_id]
        rows = []
        bounds = _bounds(len(body), self.max_length - len(head))
        for number, (start, stop) in enumerate(bounds, start=1):
            tokens = np.array(head + body[start:stop], dtype=np.int32)
            labels = tokens.copy()
            labels[: 1 if start == 0 else 1 + len(head)] = IGNORE
            rows.append(TokenRow(id_ if len(bounds) == 1 else f"{id_}#{number}", tokens, labels))
        return rows

    def _without_bos(self, ids: list[int]) -> list[int]:
        bos = self.encoder.bos_id
        if bos is None or bos == self.encoder.eos_id:
            return ids[1:] if bos is not None and ids[:1] == [bos] else list(ids)
        return [token for token in ids if token != bos]

    def _dialogue(self, id_: str, pieces: Sequence[Piece], encoded: list[list[int]]) -> Outcome:
        ids: list[int] = [] if self.encoder.bos_id is None else [self.encoder.bos_id]
        labels = [IGNORE] * len(ids)
        for index, (piece, part) in enumerate(zip(pieces, encoded, strict=True)):
            tokens = self._without_bos(part) if index == 0 or not piece.supervised else part
            ids += tokens
            labels += tokens if piece.supervised else [IGNORE] * len(tokens)
        self._end(ids, labels)
        learned = next((i for i, label in enumerate(labels) if i and label != IGNORE), None)
        if learned is None:
            return Dropped(id_, "there is no token to learn in it")
        if learned >= self.max_length:
            reason = (
                f"the answer begins after max_length: {learned} tokens come before it, "
                f"max_length is {self.max_length}"
            )
            return Dropped(id_, reason, needed=learned + 1)
        tokens_, labels_ = (np.array(x[: self.max_length], dtype=np.int32) for x in (ids, labels))
        labels_[0] = IGNORE
        return [TokenRow(id_, tokens_, labels_, truncated=len(ids) > self.max_length)]

    def _end(self, ids: list[int], labels: list[int]) -> None:
        """Close the last answer with EOS, where its template has not closed it."""
        eos = self.encoder.eos_id
        if eos is None:
            raise DataError(
                "the tokenizer has no end-of-text token, so an answer would never end. "
                "Give a tokenizer with eos_token in model.tokenizer"
            )
        if not ids or ids[-1] not in self.encoder.control_ids:
            ids.append(eos)
            labels.append(eos)

    def prompt_ids(self, prompt: str | list[Message]) -> list[int]:
        """Return the ids a model is given to answer `prompt`, as it was given them in training.

        Args:
            prompt: Text, or the messages so far.
        """
        head = [] if self.encoder.bos_id is None else [self.encoder.bos_id]
        if isinstance(prompt, str) and (self.template is None or self.want == "text"):
            text = self._plain(prompt)
            if self.want != "text" and text and not text[-1].isspace():
                text += "\n"
            pieces = [Piece(text, False)]
        else:
            if isinstance(prompt, str):
                prompt = [{"role": "user", "content": prompt}]
            if self.template is None:
                raise DataError("a conversation needs a chat template: set model.chat_template")
            pieces = templates.opening(self.template, prompt, None, self.encoder)
        return head + self._without_bos(self.encoder.encode([pieces])[0][0])


def _as_dialogue(row: CompletionRow) -> DialogueRow:
    said = (("user", row.prompt), ("assistant", row.completion))
    messages: list[Message] = [{"role": role, "content": text} for role, text in said if text]
    return DialogueRow(row.id, messages, None, len(messages) - 1)


def _bounds(length: int, size: int) -> list[tuple[int, int]]:
    """Return where to cut `length` tokens into parts of `size`, none of a single token."""
    cuts = list(range(0, length, size))
    if len(cuts) > 1 and length - cuts[-1] == 1:
        cuts[-1] -= 1
    return list(zip(cuts, [*cuts[1:], length], strict=True))
