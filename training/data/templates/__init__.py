"""Chat templates that are safe to train with: exactly the assistant's text is supervised.

`resolve` selects the template of a run; `render` renders a conversation with it as pieces that are
supervised or not. The included templates have `{% generation %}` marks. A tokenizer's own template
without marks is rendered turn by turn, and rejected if that does not identify the assistant's text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data.schema.rows import Message, RowError
from training.data.tokenization.encoder import Encoder, Piece
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FOLDER = Path(__file__).parent
NAMES = ("alpaca", "chatml", "gemma", "llama3", "mistral", "plain", "zephyr")
"""Templates that are included in Temper."""
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MARKS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
_END = re.compile(r"set end = '([^']+)'")


@dataclass(frozen=True)
class ChatTemplate:
    """Chat template of a run.

    Attributes:
        name: Name of an included template, a file, or "the tokenizer's own".
        source: Jinja source, which renders the begin-of-text token if rows begin with one.
        specials: Special tokens that it may use: `bos_token`, `eos_token`, ….
    """

    name: str
    source: str
    specials: Mapping[str, str]

    @property
    def marked(self) -> bool:
        """True if the template marks the assistant's text."""
        return bool(_GENERATION.search(self.source))

    @property
    def serving(self) -> str:
        """Jinja source to save with a model, without the marks that only training uses."""
        return _MARKS.sub("", self.source)


def resolve(
    chat_template: str | None, tokenizer: PreTrainedTokenizerBase, encoder: Encoder
) -> ChatTemplate | None:
    """Return the template of a run; None if neither the job nor the tokenizer has one.

    Args:
        chat_template: `model.chat_template`: an included template, a `.jinja` file, or None for the
            tokenizer's own.
        tokenizer: Tokenizer, for its own template and special tokens.
        encoder: Encoder, which knows whether rows begin with a begin-of-text token.

    Raises:
        DataError: The template does not exist.
    """
    specials = {
        key: str(value) for key, value in tokenizer.special_tokens_map.items() if value is not None
    }
    if chat_template is None:
        own = tokenizer.chat_template
        if isinstance(own, dict):
            own = own.get("default")
        name = "the tokenizer's own"
    elif chat_template in NAMES:
        name, own = chat_template, _included(chat_template, encoder)
    else:
        name, own = chat_template, _from_file(chat_template)
    if not own:
        return None
    return ChatTemplate(name, _with_bos(own, encoder), specials)


def _included(name: str, encoder: Encoder) -> str:
    """Return an included template, with EOS as end of turn if the vocabulary lacks its token."""
    body = (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    end = _END.search(body)
    if end and encoder.id_of(end[1]) is None:
        body = body.replace(end[0], "set end = eos_token", 1)
    return (_FOLDER / "prelude.jinja").read_text(encoding="utf-8").rstrip("\n") + body.rstrip("\n")


def _from_file(name: str) -> str:
    path = Path(name).expanduser()
    if path.is_file():
        return path.read_text(encoding="utf-8")
    what = "file" if path.suffix in {".jinja", ".j2", ".txt"} or "/" in name else "template"
    raise DataError(
        f"model.chat_template: there is no {what} {name!r}. "
        f"Give one of {', '.join(NAMES)}, or a .jinja file"
    )


def _with_bos(source: str, encoder: Encoder) -> str:
    if encoder.bos_id is None or "bos_token" in source or encoder.bos in source:
        return source
    return "{{- bos_token -}}" + source


def render(
    template: ChatTemplate, messages: list[Message], tools: Any, encoder: Encoder
) -> list[Piece]:
    """Return a conversation as pieces, of which the assistant's text is supervised.

    Args:
        template: The chat template.
        messages: The conversation.
        tools: Tools as JSON schemas, or None.
        encoder: Encoder that escapes control tokens in the content.

    Raises:
        DataError: The template does not identify the assistant's text.
        RowError: The template rejects this conversation.
    """
    escaped = _escape(messages, encoder)
    schemas = _escape(tools, encoder)
    if template.marked:
        text, spans = _render_marked(template, escaped, schemas)
    else:
        text, spans = _render_by_turns(template, escaped, schemas, encoder)
    _verify_spans(template, text, spans, escaped)
    return _pieces(text, spans)


def render_prompt(
    template: ChatTemplate, messages: list[Message], tools: Any, encoder: Encoder
) -> list[Piece]:
    """Return a conversation up to the beginning of the assistant's next answer.

    Args:
        template: The chat template.
        messages: The conversation.
        tools: Tools as JSON schemas, or None.
        encoder: Encoder that escapes control tokens in the content.
    """
    escaped = _escape(messages, encoder)
    text = _render(template, escaped, _escape(tools, encoder), prompt=True)
    return [Piece(text, False)]


def _escape(value: Any, encoder: Encoder) -> Any:
    """Return `value` with the control tokens in all its texts escaped."""
    if isinstance(value, str):
        return encoder.escape_control_tokens(value)
    if isinstance(value, list):
        return [_escape(item, encoder) for item in value]
    if isinstance(value, dict):
        return {key: _escape(item, encoder) for key, item in value.items()}
    return value


def _render(
    template: ChatTemplate, messages: list[Message], tools: Any, *, prompt: bool = False
) -> str:
    rendered, _ = _call(template, messages, tools, prompt=prompt, marks=False)
    return rendered


def _render_marked(
    template: ChatTemplate, messages: list[Message], tools: Any
) -> tuple[str, list[tuple[int, int]]]:
    return _call(template, messages, tools, prompt=False, marks=True)


def _call(
    template: ChatTemplate, messages: list[Message], tools: Any, *, prompt: bool, marks: bool
) -> tuple[str, list[tuple[int, int]]]:
    import jinja2
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        texts, spans = render_jinja_template(
            [messages],
            tools=tools,
            chat_template=template.source,
            return_assistant_tokens_mask=marks,
            add_generation_prompt=prompt,
            **template.specials,
        )
    except jinja2.TemplateSyntaxError as error:
        raise DataError(f"the chat template ({template.name}) is not valid: {error}") from None
    except (jinja2.TemplateError, TypeError) as error:
        raise RowError(f"the chat template ({template.name}) rejects it: {error}") from None
    return texts[0], [tuple(span) for span in spans[0]] if marks else []


def _render_by_turns(
    template: ChatTemplate, messages: list[Message], tools: Any, encoder: Encoder
) -> tuple[str, list[tuple[int, int]]]:
    """Return the text and the assistant's spans, by rendering with and without each turn.

    If a template renders earlier turns differently once later ones follow, the shorter rendering is
    not a prefix of the longer one, and the template is rejected.

    Raises:
        DataError: The template rewrites earlier turns.
    """
    text = _render(template, messages, tools)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _render(template, messages[:index], tools, prompt=True) if index else ""
        after = _render(template, messages[: index + 1], tools)
        if not after.startswith(before) or not text.startswith(after.rstrip()):
            raise DataError(_unsafe_template(template))
        spans.append((len(before), _end_of_turn(text, len(before), len(after), encoder)))
    return text, spans


def _end_of_turn(text: str, start: int, stop: int, encoder: Encoder) -> int:
    """Return the end of a turn: after its last control token, without trailing white space."""
    turn = text[start:stop]
    ends = [turn.rfind(token) + len(token) for token in encoder.control if token in turn]
    trimmed = len(turn.rstrip())
    return start + (trimmed if trimmed in ends else len(turn))


def _verify_spans(
    template: ChatTemplate, text: str, spans: list[tuple[int, int]], messages: list[Message]
) -> None:
    """Check that the spans hold all assistant messages in order.

    Raises:
        DataError: They do not.
    """
    answers = [message for message in messages if message["role"] == "assistant"]
    verified = len(spans) == len(answers) and all(
        message["content"].strip() in text[start:stop]
        for message, (start, stop) in zip(answers, spans, strict=True)
    )
    if not verified:
        raise DataError(_unsafe_template(template))


def _unsafe_template(template: ChatTemplate) -> str:
    return (
        f"the chat template ({template.name}) does not mark what the assistant says, and it cannot "
        "be identified in its output either (it rewrites or omits parts of earlier turns). "
        f"Choose one that is safe to train with, for instance model.chat_template: chatml "
        f"(one of {', '.join(NAMES)}), or add {{% generation %}} marks to it"
    )


def _pieces(text: str, spans: list[tuple[int, int]]) -> list[Piece]:
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
