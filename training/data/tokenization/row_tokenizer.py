"""Tokenization of typed rows into token ids and labels.

A label is the token itself if it is supervised, else `IGNORE`. The first label of a row is always
`IGNORE`, because no token precedes it that could predict it. A row has exactly one begin-of-text
token, if the tokenizer uses one, and a complete answer ends in an end-of-text or end-of-turn token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from training.config.distill import Distill
from training.config.job import Job
from training.config.method_base import RowKind
from training.config.methods import Sft
from training.data import templates
from training.data.readers.records import BadRecord
from training.data.schema.prompt_text import prompt_digest, prompt_text
from training.data.schema.rows import (
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
from training.data.tokenization.conversation_parts import split_at_turns
from training.data.tokenization.encoder import Encoder, Piece, Tokens
from training.data.tokenization.pair_rows import pair_row, ranking_rows
from training.data.tokenization.row_renderer import LossOn, PieceSequence, RowRenderer
from training.data.tokenization.text_windows import window_rows
from training.data.tokenization.token_rows import (
    IGNORE,
    Dropped,
    Outcome,
    SplitRow,
    TokenRow,
    dump_about,
)
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MIN_CUT_CHARACTERS = 200_000
"""Length below which an answer is never cut before it is encoded."""


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
        overlap: Tokens that a row of a text that is cut repeats from the row before, as context.
        splits_conversations: Whether a conversation that is too long is split at turns.
    """

    encoder: Encoder
    template: ChatTemplate | None
    want: RowKind
    loss_on: LossOn
    max_length: int
    weighs_pairs: bool = False
    overlap: int = 0
    splits_conversations: bool = False

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
        rows = cls.from_tokenizer(
            tokenizer,
            chat_template=job.model.chat_template,
            want=job.method.rows,
            loss_on=loss_on or default,
            max_length=job.data.max_length,
            weighs_pairs=job.method.weighs_pairs,
        )
        splits = job.data.long_conversations == "split"
        return replace(rows, overlap=job.data.overlap, splits_conversations=splits)

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

    @property
    def renderer(self) -> RowRenderer:
        """Renderer of the rows as text."""
        return RowRenderer(self.encoder, self.template, self.want, self.loss_on, self.weighs_pairs)

    def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return the result of each row, in order.

        Raises:
            DataError: A conversation has no chat template, or the template is unsafe to train with.
        """
        renderer = self.renderer
        rendered: list[list[PieceSequence] | Dropped | BadRecord] = [
            renderer.render(row) for row in rows
        ]
        sides = [side for result in rendered if isinstance(result, list) for side in result]
        encoded = iter(self.encoder.encode([self._shortened(side) for side in sides]))
        outcomes: list[Outcome] = []
        for row, result in zip(rows, rendered, strict=True):
            if not isinstance(result, list):
                outcomes.append(result)
                continue
            outcome = self._outcome(row, result, [next(encoded) for _ in result])
            outcomes.append(self._annotated(row, outcome))
        return outcomes

    def _annotated(self, row: Row, outcome: Outcome) -> Outcome:
        """Return the outcome of a row with its prompt and the template's markup that it holds."""
        if not isinstance(outcome, list | SplitRow):
            return outcome
        rows = outcome.rows if isinstance(outcome, SplitRow) else outcome
        prompt, markup = 0, ""
        if self.want != "text":
            last_answer = self.loss_on == "completion"
            prompt = prompt_digest(prompt_text(row, last_answer=last_answer))
        if self.template is not None and (self.want != "text" or isinstance(row, DialogueRow)):
            markup = self.template.markup.find_in_row(row)
        if prompt:
            rows[:] = [replace(part, prompt=prompt) for part in rows]
        if markup:
            rows[0] = replace(rows[0], markup=markup)
        return outcome

    def _outcome(self, row: Row, sides: list[PieceSequence], ids: list[list[Tokens]]) -> Outcome:
        if isinstance(row, PromptRow):
            return self._prompt(row, ids[0])
        if isinstance(row, TextRow) or self.want == "text":
            return self._windows(row.id, np.concatenate(ids[0]))
        if isinstance(row, DialogueRow) and self.splits_conversations:
            return self._split_or_whole(row, sides[0], ids[0])
        outcomes = [self._dialogue(row.id, *side) for side in zip(sides, ids, strict=True)]
        if isinstance(row, PreferenceRow):
            about = "" if row.margin is None else dump_about({"margin": row.margin})
            chosen, rejected = outcomes
            return pair_row(row.id, chosen, rejected, about)
        if isinstance(row, RankingRow):
            return ranking_rows(row, outcomes)
        (outcome,) = outcomes
        if isinstance(row, UnpairedRow) and isinstance(outcome, list):
            return [replace(part, about=dump_about({"label": row.label})) for part in outcome]
        return outcome

    def _shortened(self, pieces: list[Piece]) -> list[Piece]:
        """Cut a very long answer to what certainly fills a row, because encoding it is slow."""
        most = max(_MIN_CUT_CHARACTERS, (self.max_length + 1) * self.encoder.longest_token)
        last = pieces[-1]
        if self.want == "text" or len(pieces) == 1 or len(last.text) <= most:
            return pieces
        return [*pieces[:-1], Piece(last.text[:most], last.supervised)]

    def _windows(self, id_: str, ids: Tokens) -> Outcome:
        """Cut a text, with its end, into rows of `max_length`."""
        body = self._without_bos(ids)
        eos = self.encoder.eos_id
        if eos is not None and (not len(body) or body[-1] != eos):
            body = np.append(body, np.int32(eos))
        if len(self._head) + len(body) < 2:
            return Dropped(id_, "there is no token to learn in it")
        return window_rows(id_, self._head, body, self.max_length, self.overlap)

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

    def _split_or_whole(
        self, row: DialogueRow, pieces: Sequence[Piece], encoded: list[Tokens]
    ) -> Outcome:
        """Return a conversation as one row, or as several if it is too long and has several turns.

        Args:
            row: The conversation.
            pieces: Its pieces.
            encoded: Their tokens.
        """
        whole = self._labelled(pieces, encoded)
        if len(whole[0]) <= self.max_length:
            return self._fitted(row.id, *whole)
        parts = split_at_turns(row, self._fits)
        if len(parts) == 1:
            return self._fitted(row.id, *whole)
        outcomes = [self._part(part) for part in parts]
        dropped = [outcome for outcome in outcomes if isinstance(outcome, Dropped)]
        rows = [part for outcome in outcomes if isinstance(outcome, list) for part in outcome]
        bad = next((outcome for outcome in outcomes if isinstance(outcome, BadRecord)), None)
        if bad is not None:
            return BadRecord(row.id, bad.reason)
        if not rows:
            required = min((d.required_length for d in dropped if d.required_length), default=0)
            return Dropped(row.id, dropped[0].reason, required_length=required)
        return SplitRow(rows, dropped)

    def _fits(self, part: DialogueRow) -> bool:
        """Return whether a part of a conversation fits into a row."""
        rendered = self.renderer.render(part)
        if not isinstance(rendered, list):
            return True
        ids, _ = self._labelled(rendered[0], self.encoder.encode(rendered)[0])
        return len(ids) <= self.max_length

    def _part(self, part: DialogueRow) -> list[TokenRow] | Dropped | BadRecord:
        rendered = self.renderer.render(part)
        if not isinstance(rendered, list):
            return rendered
        pieces = self._shortened(rendered[0])
        return self._dialogue(part.id, pieces, self.encoder.encode([pieces])[0])

    def _dialogue(
        self, id_: str, pieces: Sequence[Piece], encoded: list[Tokens]
    ) -> list[TokenRow] | Dropped:
        return self._fitted(id_, *self._labelled(pieces, encoded))

    def _labelled(self, pieces: Sequence[Piece], encoded: list[Tokens]) -> tuple[Tokens, Tokens]:
        """Return the tokens and the labels of a conversation of any length."""
        tokens, labels = [self._head], [np.full(len(self._head), IGNORE, dtype=np.int32)]
        for index, (piece, part) in enumerate(zip(pieces, encoded, strict=True)):
            ids = self._without_bos(part) if index == 0 or not piece.supervised else part
            tokens.append(ids)
            labels.append(ids if piece.supervised else np.full_like(ids, IGNORE))
        end = self._end(tokens[-1])
        input_ids = np.concatenate([*tokens, end])
        learned = np.concatenate([*labels, end])
        learned[0] = IGNORE
        return input_ids, learned

    def _fitted(self, id_: str, input_ids: Tokens, learned: Tokens) -> list[TokenRow] | Dropped:
        """Return a conversation truncated at `max_length`, unless nothing to learn is left."""
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
        begins = supervised[np.diff(supervised, prepend=-2) > 1]
        return [
            TokenRow(
                id_,
                input_ids[:stop],
                learned[:stop],
                truncated=len(input_ids) > stop,
                answers_cut=int((begins >= stop).sum()),
            )
        ]

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
        return [
            TokenRow(row.id, tokens, np.full_like(tokens, IGNORE), about=dump_about(asdict(row)))
        ]

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

    def prompt_ids(
        self, prompt: str | list[Message], tools: list[dict[str, Any]] | None = None
    ) -> list[int]:
        """Return the ids of `prompt`, text or messages, exactly as in training.

        Args:
            prompt: Text or messages.
            tools: Tools that the model may call, as JSON schemas.

        Raises:
            DataError: The prompt is a conversation, and there is no chat template, or the template
                omits a part of it.
        """
        try:
            opening = self.renderer.render_prompt(prompt, tools)
        except RowError as fault:
            raise DataError(f"the prompt cannot be rendered: {fault}") from None
        ids = self._without_bos(self.encoder.encode([opening])[0][0])
        return [int(token) for token in np.concatenate([self._head, ids])]
