"""Rendering of typed rows as pieces of text, by a chat template or without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from training.config.method_base import RowKind
from training.data import templates
from training.data.readers.records import BadRecord
from training.data.schema.pairs import row_sequences
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    Message,
    PromptRow,
    RankingRow,
    Row,
    RowError,
    TextRow,
)
from training.data.templates import ChatTemplate
from training.data.tokenization.encoder import Encoder, Piece
from training.data.tokenization.token_rows import Dropped
from training.errors import DataError

LossOn = Literal["assistant", "completion", "all"]
PieceSequence = list[Piece]
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
class RowRenderer:
    """Renderer of typed rows as pieces of text, each supervised or not.

    Attributes:
        encoder: Encoder of the run's tokenizer.
        template: Chat template, or None.
        want: Kind of row. `text` supervises every token, `dialogue` the part that `loss_on` names,
            `preference` and `unpaired` the answers, `prompt` nothing.
        loss_on: Part of a conversation that is supervised.
        weighs_pairs: Whether the method weighs pairs; others would count a long ranking many times.
    """

    encoder: Encoder
    template: ChatTemplate | None
    want: RowKind
    loss_on: LossOn
    weighs_pairs: bool = False

    def render(self, row: Row) -> list[PieceSequence] | Dropped | BadRecord:
        """Return the sequences of a row as pieces: one for each answer of a pair or ranking.

        Raises:
            DataError: The row is a ranking, and the method does not weigh its pairs, or it is a
                conversation and there is no chat template.
        """
        try:
            if isinstance(row, PromptRow):
                return [self.render_prompt(row.prompt, row.tools)]
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

    def _pieces(self, row: Row) -> PieceSequence | Dropped:
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

    def _completion(self, row: CompletionRow) -> PieceSequence:
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

    def _conversation(self, row: DialogueRow) -> PieceSequence | Dropped:
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

    def render_prompt(
        self, prompt: str | list[Message], tools: list[dict[str, Any]] | None = None
    ) -> PieceSequence:
        """Return a prompt as pieces, with what the template writes before an answer.

        Args:
            prompt: Text or messages.
            tools: Tools that the model may call.

        Raises:
            RowError: There are tools and no chat template.
            DataError: The prompt is a conversation, and there is no chat template.
        """
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
