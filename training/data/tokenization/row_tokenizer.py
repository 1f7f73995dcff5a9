"""Tokenization of typed rows into token ids and labels.

A label is the token itself if it is supervised, else `IGNORE`. The first label of a row is always
`IGNORE`, because no token precedes it that could predict it. A row has exactly one begin-of-text
token, if the tokenizer uses one, and a complete answer ends in an end-of-text or end-of-turn token.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from training.config.distill import Distill
from training.config.job import Job
from training.config.method_base import RowKind
from training.config.methods import Sft
from training.data import templates
from training.data.readers.records import BadRecord
from training.data.schema.pairs import row_sequences
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    Message,
    PreferenceRow,
    PromptRow,
    RankingRow,
    Row,
    RowError,
    TextRow,
    UnpairedRow,
)
from training.data.templates import ChatTemplate
from training.data.tokenization.encoder import Encoder, Piece, Tokens
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100
_MIN_CUT_CHARACTERS = 200_000
"""Length below which an answer is never cut before it is encoded."""
LossOn = Literal["assistant", "completion", "all"]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Tokenized row.

    Attributes:
        id: Id of the source row, or of a part of it: `book.parquet:3#2`.
        input_ids: Token ids, at most `max_length`; of a pair, the chosen side, then the rejected.
        labels: Labels of the same length; `IGNORE` at unsupervised tokens.
        truncated: Whether tokens were cut off the end.
        split: Index at which the second side of a pair begins; 0 if there is one sequence.
        about: Metadata that the method reads, as JSON.
    """

    id: str
    input_ids: Tokens
    labels: Tokens
    truncated: bool = False
    split: int = 0
    about: str = ""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence of the row."""
        size = len(self.input_ids)
        return [self.split, size - self.split] if self.split else [size]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Row that was read but has nothing to train on.

    Attributes:
        id: Id of the source row.
        reason: Reason for dropping it.
        required_length: Smallest `max_length` at which it would be kept; 0 if none would do.
    """

    id: str
    reason: str
    required_length: int = 0


Outcome = list[TokenRow] | Dropped | BadRecord
"""Result of one row: its token rows (several for a long text), or the reason for having none."""
_Sequence = list[Piece]
"""One sequence of a row, in pieces."""
_TOOLS_WITHOUT_TEMPLATE = (
    "the row has tools, and only a chat template can write them. Choose one, for instance "
    f"model.chat_template: chatml (of {', '.join(templates.NAMES)}), or remove the tools"
)
_RANKING_UNWEIGHTED = (
    "this is a ranking of several answers. Only a reward model (method: {kind: reward}) weighs its "
    "pairs so that it counts as one; this method would learn a ranking of many answers many times. "
    "Train a reward model, or write the pairs to learn as chosen and rejected"
)
_CONTINUED_KINDS: tuple[RowKind, ...] = ("text", "prompt")
"""Kinds of row whose continuation follows a plain prompt directly, without a line break."""


@dataclass(frozen=True)
class RowTokenizer:
    """Tokenizer of typed rows, for one run.

    Attributes:
        encoder: Encoder of the run's tokenizer.
        template: Chat template, or None.
        want: Kind of row. `text` supervises every token, `dialogue` the part that `loss_on` names,
            `preference` and `unpaired` the answers, `prompt` nothing.
        loss_on: Part of a conversation that is supervised.
        max_length: Maximum tokens of a row. Texts are cut into such rows, conversations truncated.
        weighs_pairs: Whether the method weighs pairs; others would count a long ranking many times.
    """

    encoder: Encoder
    template: ChatTemplate | None
    want: RowKind
    loss_on: LossOn
    max_length: int
    weighs_pairs: bool = False

    @classmethod
    def for_job(cls, job: Job, tokenizer: PreTrainedTokenizerBase) -> RowTokenizer:
        """Return the row tokenizer of a job.

        A run builds it once and passes it along: data preparation, generation and the saved model
        must agree on the chat template and on the tokens that end an answer.

        Args:
            job: The run.
            tokenizer: Tokenizer of the model.

        Raises:
            DataError: The job names a chat template that does not exist.
        """
        # Methods without `loss_on` have one choice: pre-training learns all text, and methods that
        # compare answers learn the answers.
        default: LossOn = "all" if job.method.rows == "text" else "assistant"
        loss_on = job.method.loss_on if isinstance(job.method, Sft | Distill) else None
        return cls.from_tokenizer(
            tokenizer,
            chat_template=job.model.chat_template,
            want=job.method.rows,
            loss_on=loss_on or default,
            max_length=job.data.max_length,
            weighs_pairs=job.method.weighs_pairs,
        )

    @classmethod
    def from_tokenizer(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        *,
        chat_template: str | None,
        want: RowKind,
        loss_on: LossOn = "assistant",
        max_length: int,
        weighs_pairs: bool = False,
    ) -> RowTokenizer:
        """Return a row tokenizer for a tokenizer and a chat template.

        Args:
            tokenizer: Tokenizer that encodes the text.
            chat_template: Name or file of a chat template; None for the tokenizer's own.
            want: Kind of row to produce.
            loss_on: Part of a conversation that is learned.
            max_length: Maximum tokens of a row.
            weighs_pairs: Whether the method weighs the pairs of a ranking.

        Raises:
            DataError: The chat template does not exist.
        """
        encoder = Encoder(tokenizer)
        template = templates.resolve(chat_template, tokenizer, encoder)
        return cls(encoder, template, want, loss_on, max_length, weighs_pairs)

    def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return the result of each row, in order.

        Raises:
            DataError: A conversation has no chat template, or the template is unsafe to train with.
        """
        rendered: list[list[_Sequence] | Dropped | BadRecord] = [self._render(row) for row in rows]
        sides = [side for result in rendered if isinstance(result, list) for side in result]
        encoded = iter(self.encoder.encode([self._shortened(side) for side in sides]))
        outcomes: list[Outcome] = []
        for row, result in zip(rows, rendered, strict=True):
            if not isinstance(result, list):
                outcomes.append(result)
                continue
            outcomes.append(self._outcome(row, result, [next(encoded) for _ in result]))
        return outcomes

    def _outcome(self, row: Row, sides: list[_Sequence], ids: list[list[Tokens]]) -> Outcome:
        if isinstance(row, PromptRow):
            return self._prompt(row, ids[0])
        if isinstance(row, TextRow) or self.want == "text":
            return self._chunks(row.id, np.concatenate(ids[0]))
        outcomes = [self._dialogue(row.id, *side) for side in zip(sides, ids, strict=True)]
        if isinstance(row, PreferenceRow):
            about = "" if row.margin is None else _json({"margin": row.margin})
            chosen, rejected = outcomes
            return _pair(row.id, chosen, rejected, about)
        if isinstance(row, RankingRow):
            return _ranking(row, outcomes)
        (outcome,) = outcomes
        if isinstance(row, UnpairedRow) and isinstance(outcome, list):
            return [replace(part, about=_json({"label": row.label})) for part in outcome]
        return outcome

    def _shortened(self, pieces: list[Piece]) -> list[Piece]:
        """Cut a very long answer to what certainly fills a row, because encoding it is slow."""
        most = max(_MIN_CUT_CHARACTERS, (self.max_length + 1) * self.encoder.longest_token)
        last = pieces[-1]
        if self.want == "text" or len(pieces) == 1 or len(last.text) <= most:
            return pieces
        return [*pieces[:-1], Piece(last.text[:most], last.supervised)]

    def _render(self, row: Row) -> list[_Sequence] | Dropped | BadRecord:
        """Return the sequences of a row as pieces: one for each answer of a pair or ranking.

        Raises:
            DataError: The row is a ranking, and the method does not weigh its pairs.
        """
        try:
            if isinstance(row, PromptRow):
                return [self._opening(row.prompt, row.tools)]
            if isinstance(row, RankingRow):
                if not self.weighs_pairs:
                    raise DataError(f"{row.id}: {_RANKING_UNWEIGHTED}")
                if not row.pairs:
                    return Dropped(row.id, "all answers have the same rank")
            sides = []
            for side in row_sequences(row, templated=self.template is not None):
                pieces = self._pieces(side)
                if isinstance(pieces, Dropped):
                    return pieces
                sides.append(pieces)
            return sides
        except RowError as fault:
            return BadRecord(row.id, str(fault))

    def _pieces(self, row: Row) -> _Sequence | Dropped:
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

    def _completion(self, row: CompletionRow) -> _Sequence:
        if row.tools:
            raise RowError(_TOOLS_WITHOUT_TEMPLATE)
        opening_text = f"{row.system}\n\n{row.prompt}" if row.system else row.prompt
        prompt = self._plain(opening_text)
        completion = self._plain(row.completion).removesuffix(self.encoder.eos)
        if prompt and not prompt[-1].isspace() and not completion[:1].isspace():
            prompt += "\n"
        opening = [Piece(prompt, self.loss_on == "all")] if prompt else []
        return [*opening, Piece(completion, True)]

    def _plain(self, text: str) -> str:
        """Return text that keeps its control tokens, except begin-of-text."""
        return self.encoder.escape_control_tokens(
            text.removeprefix(self.encoder.bos), only_bos=True
        )

    def _conversation(self, row: DialogueRow) -> _Sequence | Dropped:
        if self.template is None:
            raise DataError(
                f"{row.id}: this is a conversation, and the tokenizer has no chat template to "
                "render it with. Choose one: model.chat_template: chatml "
                f"(of {', '.join(templates.NAMES)})"
            )
        answers = [
            index
            for index, message in enumerate(row.messages)
            if index >= row.answers_from and message["role"] == "assistant"
        ]
        if not answers:
            return Dropped(row.id, "it has no assistant message")
        if self.loss_on == "completion":
            answers = answers[-1:]
        learned = [index for index in answers if row.messages[index].get("learned", True)]
        if not learned and self.want != "text":
            return Dropped(row.id, "every answer in it is marked as not trained on")
        everything = self.want == "text" or self.loss_on == "all"
        # Only what is learned must be identified in the template's output.
        marked = answers if everything else learned
        pieces = templates.render(self.template, row.messages, row.tools, self.encoder, marked)
        spans = [index for index, piece in enumerate(pieces) if piece.supervised]
        if not everything:
            return pieces[: spans[-1] + 1]
        last = len(pieces) if pieces[-1].text.strip() else spans[-1] + 1
        context = {
            span
            for span, index in zip(spans, answers, strict=True)
            if self.want != "text" and index not in learned
        }
        return [Piece(p.text, i not in context) for i, p in enumerate(pieces[:last])]

    def _chunks(self, id_: str, ids: Tokens) -> Outcome:
        """Cut a text into rows of `max_length`; each token is in exactly one of them.

        The first text token of a continuation row is unsupervised: the row has no context for it.
        """
        body = self._without_bos(ids)
        eos = self.encoder.eos_id
        if eos is not None and (not len(body) or body[-1] != eos):
            body = np.append(body, np.int32(eos))
        if len(self._head) + len(body) < 2:
            return Dropped(id_, "there is no token to learn in it")
        bounds = _bounds(len(body), self.max_length - len(self._head))
        rows: list[TokenRow] = []
        for number, (start, stop) in enumerate(bounds, start=1):
            tokens = np.concatenate([self._head, body[start:stop]])
            labels = tokens.copy()
            labels[: 1 if start == 0 else 1 + len(self._head)] = IGNORE
            rows.append(TokenRow(id_ if len(bounds) == 1 else f"{id_}#{number}", tokens, labels))
        return rows

    @property
    def _head(self) -> Tokens:
        """Begin-of-text token of a row, if the tokenizer uses one."""
        bos = self.encoder.bos_id
        return np.array([] if bos is None else [bos], dtype=np.int32)

    def _without_bos(self, ids: Tokens) -> Tokens:
        bos = self.encoder.bos_id
        if bos is None:
            return ids
        if bos == self.encoder.eos_id:
            return ids[1:] if len(ids) and ids[0] == bos else ids
        return ids[ids != bos]

    def _dialogue(self, id_: str, pieces: Sequence[Piece], encoded: list[Tokens]) -> Outcome:
        tokens, labels = [self._head], [np.full(len(self._head), IGNORE, dtype=np.int32)]
        for index, (piece, part) in enumerate(zip(pieces, encoded, strict=True)):
            ids = self._without_bos(part) if index == 0 or not piece.supervised else part
            tokens.append(ids)
            labels.append(ids if piece.supervised else np.full_like(ids, IGNORE))
        end = self._end(tokens[-1])
        input_ids = np.concatenate([*tokens, end])
        learned = np.concatenate([*labels, end])
        learned[0] = IGNORE
        supervised = np.flatnonzero(learned != IGNORE)
        if not len(supervised):
            return Dropped(id_, "there is no token to learn in it")
        first = int(supervised[0])
        if first >= self.max_length:
            reason = (
                f"the answer begins after max_length: {first} tokens come before it, "
                f"max_length is {self.max_length}"
            )
            return Dropped(id_, reason, required_length=first + 1)
        stop = self.max_length
        return [TokenRow(id_, input_ids[:stop], learned[:stop], truncated=len(input_ids) > stop)]

    def _prompt(self, row: PromptRow, ids: list[Tokens]) -> Outcome:
        """Return a prompt as the model receives it; one that is too long is dropped, not cut."""
        tokens = np.concatenate([self._head, self._without_bos(ids[0])])
        if not len(tokens):
            return Dropped(row.id, "the prompt is empty")
        if len(tokens) > self.max_length:
            reason = (
                f"the prompt is longer than max_length: it has {len(tokens)} tokens, "
                f"max_length is {self.max_length}"
            )
            return Dropped(row.id, reason, required_length=len(tokens))
        return [TokenRow(row.id, tokens, np.full_like(tokens, IGNORE), about=_json(asdict(row)))]

    def _end(self, last: Tokens) -> Tokens:
        """Return the token that ends the last answer: EOS, unless the template has ended it.

        Raises:
            DataError: The tokenizer has no end-of-text token.
        """
        eos = self.encoder.eos_id
        if eos is None:
            raise DataError(
                "the tokenizer has no end-of-text token, so an answer would never end. "
                "Give a tokenizer with eos_token in model.tokenizer"
            )
        closed = len(last) and int(last[-1]) in self.encoder.closing_ids
        return np.array([] if closed else [eos], dtype=np.int32)

    @property
    def end_ids(self) -> list[int]:
        """Ids that end an answer in training, at which generation stops."""
        ends = set() if self.encoder.eos_id is None else {self.encoder.eos_id}
        if self.template is not None:
            sample = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            pieces = templates.render(self.template, sample, None, self.encoder)
            answer = next(piece for piece in pieces if piece.supervised)
            ends |= {int(self.encoder.encode([[answer]])[0][0][-1])} & self.encoder.closing_ids
        return sorted(ends)

    def prompt_ids(self, prompt: str | list[Message]) -> list[int]:
        """Return the ids of `prompt`, text or messages, exactly as in training.

        Raises:
            DataError: The prompt is a conversation, and there is no chat template, or the template
                omits a part of it.
        """
        try:
            opening = self._opening(prompt)
        except RowError as fault:
            raise DataError(f"the prompt cannot be rendered: {fault}") from None
        ids = self._without_bos(self.encoder.encode([opening])[0][0])
        return [int(token) for token in np.concatenate([self._head, ids])]

    def _opening(
        self, prompt: str | list[Message], tools: list[dict[str, Any]] | None = None
    ) -> _Sequence:
        if tools and self.template is None:
            raise RowError(_TOOLS_WITHOUT_TEMPLATE)
        if isinstance(prompt, str) and (self.template is None or self.want == "text"):
            text = self._plain(prompt)
            if self.want not in _CONTINUED_KINDS and text and not text[-1].isspace():
                text += "\n"
            return [Piece(text, False)]
        if isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        if self.template is None:
            raise DataError("a conversation needs a chat template: set model.chat_template")
        return templates.render_prompt(self.template, prompt, tools, self.encoder)


def _as_dialogue(row: CompletionRow) -> DialogueRow:
    parts = (("system", row.system), ("user", row.prompt), ("assistant", row.completion))
    messages: list[Message] = [{"role": role, "content": text} for role, text in parts if text]
    return DialogueRow(row.id, messages, row.tools, len(messages) - 1)


def _ranking(row: RankingRow, answers: Sequence[Outcome]) -> Outcome:
    """Return one row for each pair of a ranking, or the reason why a pair cannot be learned.

    A ranking is kept or dropped as a whole: its weights are shares of all its pairs.
    """
    rows: list[TokenRow] = []
    for number, pair in enumerate(row.pairs, start=1):
        about = _json({"weight": pair.weight})
        outcome = _pair(f"{row.id}#{number}", answers[pair.chosen], answers[pair.rejected], about)
        if not isinstance(outcome, list):
            return replace(outcome, id=row.id) if isinstance(outcome, Dropped) else outcome
        rows += outcome
    return rows


def _pair(id_: str, chosen: Outcome, rejected: Outcome, about: str) -> Outcome:
    """Return both sides as one row, or the reason why a side has nothing to train on.

    Args:
        id_: Id of the row.
        chosen: Result of the better answer.
        rejected: Result of the other one.
        about: Metadata that the method reads, as JSON.
    """
    dropped = [side for side in (chosen, rejected) if isinstance(side, Dropped)]
    if dropped:
        return max(dropped, key=lambda side: side.required_length)
    assert isinstance(chosen, list) and isinstance(rejected, list)
    (better,), (worse,) = chosen, rejected
    if np.array_equal(better.input_ids, worse.input_ids):
        return Dropped(id_, "chosen and rejected are the same within max_length")
    return [
        TokenRow(
            id_,
            np.concatenate([better.input_ids, worse.input_ids]),
            np.concatenate([better.labels, worse.labels]),
            truncated=better.truncated or worse.truncated,
            split=len(better.input_ids),
            about=about,
        )
    ]


def _json(about: dict[str, Any]) -> str:
    return json.dumps(about, ensure_ascii=False, sort_keys=True, default=str)


def _bounds(length: int, size: int) -> list[tuple[int, int]]:
    """Return the bounds that cut `length` tokens into parts of `size`, none of a single token."""
    cuts = list(range(0, length, size))
    if len(cuts) > 1 and length - cuts[-1] == 1:
        cuts[-1] -= 1
    return list(zip(cuts, [*cuts[1:], length], strict=True))
