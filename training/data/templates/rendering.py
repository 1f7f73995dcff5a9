"""Rendering of a conversation as pieces, of which the learned answers are supervised."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

from training.data.schema.rows import Message, RowError
from training.data.templates.chat_template import NAMES, ChatTemplate, is_marked
from training.data.templates.conversation import escape, messages_for
from training.data.templates.coverage import verify_coverage
from training.data.tokenization.encoder import Encoder, Piece
from training.errors import DataError

Span = tuple[int, int]
_ONE_AT_A_TIME = threading.Lock()
"""Transformers compiles a template once and records the marked spans in it, so that a stream's
background thread and the main thread would write into each other's."""


def render(
    template: ChatTemplate,
    messages: list[Message],
    tools: Any,
    encoder: Encoder,
    answers: Collection[int] | None = None,
) -> list[Piece]:
    """Return a conversation as pieces, of which the assistant's answers are supervised.

    Args:
        template: The chat template.
        messages: The conversation.
        tools: Tools as JSON schemas, or None.
        encoder: Encoder that escapes control tokens in the content.
        answers: Indices of the assistant messages to supervise; None for all of them. Only these
            need to be identified in the output: a template may render other turns as it likes.

    Raises:
        DataError: The template does not identify the assistant's text.
        RowError: The template rejects this conversation, or omits a part of it.
    """
    if answers is None:
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    rendering = _Rendering(template, messages, tools, encoder)
    if not rendering.has_argument_objects:
        return rendering.pieces(answers)
    as_text = _Rendering(template, messages, tools, encoder, text_arguments=True)
    try:
        # A template that joins text would write an object as Python does: {'city': 'Rome'}.
        return (as_text if rendering.writes_python_objects() else rendering).pieces(answers)
    except RowError as fault:
        try:
            return as_text.pieces(answers)
        except RowError:
            raise fault from None


def render_prompt(
    template: ChatTemplate, messages: list[Message], tools: Any, encoder: Encoder
) -> list[Piece]:
    """Return a conversation up to the beginning of the assistant's next answer.

    Args:
        template: The chat template.
        messages: The conversation.
        tools: Tools as JSON schemas, or None.
        encoder: Encoder that escapes control tokens in the content.

    Raises:
        RowError: The template rejects this conversation, or omits a part of it.
    """
    rendering = _Rendering(template, messages, tools, encoder)
    if rendering.has_argument_objects:
        as_text = _Rendering(template, messages, tools, encoder, text_arguments=True)
        try:
            return (as_text if rendering.writes_python_objects() else rendering).prompt_pieces()
        except RowError as fault:
            try:
                return as_text.prompt_pieces()
            except RowError:
                raise fault from None
    return rendering.prompt_pieces()


def render_text(
    template: ChatTemplate, source: str, messages: list[Message], tools: Any, *, prompt: bool
) -> str:
    """Return messages as text.

    Args:
        template: The chat template, for its name and special tokens.
        source: Its source for this conversation.
        messages: Messages as the template reads them.
        tools: Tools as JSON schemas, or None.
        prompt: Add the head of the assistant's next answer.
    """
    return _call(template, source, messages, tools, prompt=prompt, marks=False)[0]


class _Rendering:
    """Rendering of one conversation with one form of its tool arguments."""

    def __init__(
        self,
        template: ChatTemplate,
        messages: list[Message],
        tools: Any,
        encoder: Encoder,
        *,
        text_arguments: bool = False,
    ):
        self._template = template
        self._encoder = encoder
        self._source = template.source_for(tools)
        self._messages = messages_for(
            template, self._source, messages, encoder, text_arguments=text_arguments
        )
        self._tools = escape(tools, encoder)

    @property
    def has_argument_objects(self) -> bool:
        """True if a tool call has arguments as an object."""
        return any(isinstance(value, dict) for value in self._arguments())

    def writes_python_objects(self) -> bool:
        """Return whether arguments are rendered as Python writes objects, not as JSON."""
        try:
            text = self._text(self._messages)
        except RowError:
            return False
        written = (str(value) for value in self._arguments() if value and isinstance(value, dict))
        return any(value in text for value in written)

    def pieces(self, answers: Collection[int]) -> list[Piece]:
        """Return the conversation with the given answers supervised."""
        if is_marked(self._source):
            text, spans = self._marked_spans(answers)
        else:
            text, spans = self._spans_by_turns(answers)
        self._verify_spans(text, spans, answers)
        self._verify_coverage(text, answers)
        return _pieces(text, spans)

    def prompt_pieces(self) -> list[Piece]:
        """Return the conversation as a prompt."""
        text = self._text(self._messages, prompt=True)
        self._verify_coverage(text, ())
        return [Piece(text, False)]

    def _arguments(self) -> list[Any]:
        return [
            call["function"]["arguments"]
            for message in self._messages
            for call in message.get("tool_calls") or []
        ]

    def _text(self, messages: list[Message], *, prompt: bool = False) -> str:
        return render_text(self._template, self._source, messages, self._tools, prompt=prompt)

    def _verify_coverage(self, text: str, answers: Collection[int]) -> None:
        def render_probe(messages: list[Message], tools: Any) -> str:
            return render_text(self._template, self._source, messages, tools, prompt=not answers)

        verify_coverage(
            render_probe, self._messages, self._tools, text, answers, self._template.name
        )

    def _marked_spans(self, answers: Collection[int]) -> tuple[str, list[Span]]:
        """Return the text and the marked spans of the answers.

        Raises:
            DataError: The marks do not match the assistant's messages.
        """
        text, spans = _call(
            self._template, self._source, self._messages, self._tools, prompt=False, marks=True
        )
        said = [i for i, m in enumerate(self._messages) if m["role"] == "assistant"]
        if len(spans) != len(said):
            spans = _joined(spans)
        if len(spans) != len(said):
            raise DataError(_mark_mismatch(self._template, len(spans), len(said)))
        spans = [
            (start, _end_of_turn(text, start, stop, self._encoder))
            for index, (start, stop) in zip(said, spans, strict=True)
            if index in answers
        ]
        return text, spans

    def _spans_by_turns(self, answers: Collection[int]) -> tuple[str, list[Span]]:
        """Return the text and the answers' spans, by rendering with and without each answer.

        If a template renders earlier turns differently once later ones follow, the shorter
        rendering is not a prefix of the longer one, and the template is rejected.

        Raises:
            DataError: The template rewrites a learned answer or the turns before it.
        """
        text = self._text(self._messages)
        spans = []
        for index in sorted(answers):
            before = self._text(self._messages[:index], prompt=True) if index else ""
            after = self._text(self._messages[: index + 1])
            if not after.startswith(before) or not text.startswith(after.rstrip()):
                raise DataError(_unsafe_template(self._template, len(answers) > 1))
            stop = _end_of_turn(text, len(before), len(after), self._encoder)
            spans.append((len(before), stop))
        return text, spans

    def _verify_spans(self, text: str, spans: list[Span], answers: Collection[int]) -> None:
        """Check that the spans hold the answers in order; templates may change white space.

        Raises:
            DataError: They do not.
        """
        for index, (start, stop) in zip(sorted(answers), spans, strict=True):
            content = self._messages[index]["content"].strip()
            span = text[start:stop]
            if content not in span and "".join(content.split()) not in "".join(span.split()):
                raise DataError(_unsafe_template(self._template, len(answers) > 1))


def _call(
    template: ChatTemplate,
    source: str,
    messages: list[Message],
    tools: Any,
    *,
    prompt: bool,
    marks: bool,
) -> tuple[str, list[Span]]:
    import jinja2
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        with _ONE_AT_A_TIME:
            texts, spans = render_jinja_template(
                [messages],
                tools=tools,
                chat_template=source,
                return_assistant_tokens_mask=marks,
                add_generation_prompt=prompt,
                **template.specials,
            )
    except jinja2.TemplateSyntaxError as error:
        raise DataError(f"the chat template ({template.name}) is not valid: {error}") from None
    except (jinja2.TemplateError, TypeError) as error:
        raise RowError(f"the chat template ({template.name}) rejects it: {error}") from None
    return texts[0], [(int(start), int(stop)) for start, stop in spans[0]] if marks else []


def _joined(spans: list[Span]) -> list[Span]:
    """Return the spans with those that touch made one.

    A template may mark the answer and its end token in two blocks.
    """
    joined: list[Span] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _end_of_turn(text: str, start: int, stop: int, encoder: Encoder) -> int:
    """Return the end of a turn: after its last control token, without trailing white space."""
    turn = text[start:stop]
    ends = [turn.rfind(token) + len(token) for token in encoder.control if token in turn]
    trimmed = len(turn.rstrip())
    return start + (trimmed if trimmed in ends else len(turn))


def _mark_mismatch(template: ChatTemplate, marked: int, said: int) -> str:
    return (
        f"the chat template ({template.name}) does not mark what the assistant says: it marks "
        f"{marked} parts with {{% generation %}}, and the conversation has {said} assistant "
        f"messages. Put one mark around each of them, or choose another template, for instance "
        f"model.chat_template: chatml (one of {', '.join(NAMES)})"
    )


def _unsafe_template(template: ChatTemplate, several: bool) -> str:
    last = (
        " If only the last answer is to be learned, set method.loss_on: completion (with sft): "
        "then only that one must be identified."
        if several
        else ""
    )
    return (
        f"the chat template ({template.name}) does not mark what the assistant says, and it cannot "
        f"be identified in its output either (it rewrites or omits parts of earlier turns).{last} "
        f"Choose one that is safe to train with, for instance model.chat_template: chatml "
        f"(one of {', '.join(NAMES)}), or add {{% generation %}} marks to it"
    )


def _pieces(text: str, spans: list[Span]) -> list[Piece]:
    pieces = []
    at = 0
    for start, stop in spans:
        if start > at:
            pieces.append(Piece(text[at:start], False))
        pieces.append(Piece(text[start:stop], True))
        at = stop
    if at < len(text):
        pieces.append(Piece(text[at:], False))
    return pieces
