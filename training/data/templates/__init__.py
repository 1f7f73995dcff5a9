"""Chat templates that are safe to train with: exactly the assistant's text is supervised.

`resolve` selects the template of a run; `render` (in `rendering`) renders a conversation with it as
pieces that are supervised or not, and `coverage` proves that everything the conversation holds is
in them. The included templates have `{% generation %}` marks. A tokenizer's own template without
marks is rendered turn by turn, and rejected if that does not identify the assistant's text.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data.templates.chat_template import NAMES, ChatTemplate
from training.data.templates.markup import turn_markup
from training.data.templates.rendering import render, render_prompt, render_text
from training.data.templates.turn_tokens import assistant_tokens
from training.data.tokenization.encoder import Encoder
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["NAMES", "ChatTemplate", "render", "render_prompt", "resolve"]

_FOLDER = Path(__file__).parent
_END = re.compile(r"set end = '([^']+)'")


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
    variants: dict[str, str] = {}
    if chat_template is None:
        own = tokenizer.chat_template
        if isinstance(own, dict):
            variants = {
                name: _with_bos(source, encoder)
                for name, source in own.items()
                if name != "default"
            }
            own = own.get("default")
        name = "the tokenizer's own"
    elif chat_template in NAMES:
        name, own = chat_template, _included(chat_template, encoder)
    else:
        name, own = chat_template, _from_file(chat_template)
    if not own:
        return None
    template = ChatTemplate(name, _with_bos(own, encoder), specials, variants)

    def render_sample(messages: list[dict[str, Any]], prompt: bool) -> str:
        return render_text(template, template.source, messages, None, prompt=prompt)

    said = assistant_tokens(render_sample, encoder.control, tokenizer)
    # Padding and unknown words occur in data about language models, and are no markup of turns.
    named = {tokenizer.bos_token, tokenizer.eos_token}
    neutral = {
        str(token) for token in (tokenizer.pad_token, tokenizer.unk_token) if token not in named
    }
    markup = turn_markup(render_sample, encoder.control, said | neutral)
    return replace(template, assistant_tokens=said, markup=markup)


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
