"""Chat templates that are safe to train with: what the assistant said is marked, and nothing else.

`resolve` chooses the template of a run; `render` writes a conversation with it as pieces that say
which part is learned. Templates of ours carry `{% generation %}` marks. A template of the
tokenizer's own without marks is rendered turn by turn, and refused where that does not prove what
the assistant said.
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
"""Templates that come with Temper."""
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MARKS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
_END = re.compile(r"set end = '([^']+)'")


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a run.

    Attributes:
        name: Ours by name, a file, or "the tokenizer's own".
        source: Its Jinja text; begins a conversation with the begin-of-text token where rows do.
        specials: The tokens it may write: `bos_token`, `eos_token`, ….
    """

    name: str
    source: str
    specials: Mapping[str, str]

    @property
    def marked(self) -> bool:
        """Whether it marks what the assistant says."""
        return bool(_GENERATION.search(self.source))

    @property
    def serving(self) -> str:
        """The text to save beside a model, without the marks that only training reads."""
        return _MARKS.sub("", self.source)


def resolve(
    chat_template: str | None, tokenizer: PreTrainedTokenizerBase, encoder: Encoder
) -> ChatTemplate | None:
    """Return the template of a run; None when neither the job nor the tokenizer has one.

    Args:
        chat_template: `model.chat_template`: a name of ours, a `.jinja` file, or None for the
            tokenizer's own.
        tokenizer: Gives its own template and the control tokens.
        encoder: Says whether rows begin with a begin-of-text token.

    Raises:
        DataError: No such template.
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
        name, own = chat_template, _ours(chat_template, encoder)
    else:
        name, own = chat_template, _from_file(chat_template)
    if not own:
        return None
    return ChatTemplate(name, _with_bos(own, encoder), specials)


def _ours(name: str, encoder: Encoder) -> str:
    """Return a template of ours; its end of turn becomes EOS where the vocabulary lacks it."""
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
    """Return a conversation as pieces, those the assistant said marked as supervised.

    Raises:
        DataError: The template cannot say what the assistant said.
        RowError: The template refuses this conversation.
    """
    quoted = _quote(messages, encoder)
    schemas = _quote(tools, encoder)
    if template.marked:
        text, spans = _render_marked(template, quoted, schemas)
    else:
        text, spans = _render_by_turns(template, quoted, schemas, encoder)
    _prove(template, text, spans, quoted)
    return _pieces(text, spans)


def opening(
    template: ChatTemplate, messages: list[Message], tools: Any, encoder: Encoder
) -> list[Piece]:
    """Return a conversation up to where the assistant's next answer begins."""
    quoted = _quote(messages, encoder)
    text = _render(template, quoted, _quote(tools, encoder), prompt=True)
    return [Piece(text, False)]


def _quote(value: Any, encoder: Encoder) -> Any:
    """Return `value` with control tokens inside any of its texts marked as plain text."""
    if isinstance(value, str):
        return encoder.escape_control_tokens(value)
    if isinstance(value, list):
        return [_quote(item, encoder) for item in value]
    if isinstance(value, dict):
        return {key: _quote(item, encoder) for key, item in value.items()}
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
        raise RowError(f"the chat template ({template.name}) refuses it: {error}") from None
    return texts[0], [tuple(span) for span in spans[0]] if marks else []


def _render_by_turns(
    template: ChatTemplate, messages: list[Message], tools: Any, encoder: Encoder
) -> tuple[str, list[tuple[int, int]]]:
    """Find what the assistant said by rendering each of its turns with and without it.

    A template that writes earlier turns differently once later ones are there gives itself away:
    the shorter rendering is then no beginning of the longer one.
    """
    text = _render(template, messages, tools)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _render(template, messages[:index], tools, prompt=True) if index else ""
        after = _render(template, messages[: index + 1], tools)
        if not after.startswith(before) or not text.startswith(after.rstrip()):
            raise _unprovable(template)
        spans.append((len(before), _end_of_turn(text, len(before), len(after), encoder)))
    return text, spans


def _end_of_turn(text: str, start: int, stop: int, encoder: Encoder) -> int:
    """Return where a turn ends: behind its last control token, without the space after it."""
    said = text[start:stop]
    ends = [said.rfind(token) + len(token) for token in encoder.control if token in said]
    trimmed = len(said.rstrip())
    return start + (trimmed if trimmed in ends else len(said))


def _prove(
    template: ChatTemplate, text: str, spans: list[tuple[int, int]], messages: list[Message]
) -> None:
    """Check that the marked spans hold the assistant's words, all of them and in order."""
    said = [message for message in messages if message["role"] == "assistant"]
    proven = len(spans) == len(said) and all(
        message["content"].strip() in text[start:stop]
        for message, (start, stop) in zip(said, spans, strict=True)
    )
    if not proven:
        raise _unprovable(template)


def _unprovable(template: ChatTemplate) -> DataError:
    return DataError(
        f"the chat template ({template.name}) does not mark what the assistant says, and it cannot "
        "be told from its output either (it rewrites or leaves out parts of earlier turns). "
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
