"""Chat template of a run, with the variant for conversations that have tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from training.data.templates.markup import TurnMarkup

NAMES = ("alpaca", "chatml", "gemma", "llama3", "mistral", "plain", "zephyr")
"""Templates that are included in Temper."""
TOOL_USE = "tool_use"
"""Name of the template that Transformers uses for conversations with tools, if there is one."""
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MARKS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


@dataclass(frozen=True)
class ChatTemplate:
    """Chat template of a run.

    Attributes:
        name: Name of an included template, a file, or "the tokenizer's own".
        source: Jinja source, which renders the begin-of-text token if rows begin with one.
        specials: Special tokens that it may use: `bos_token`, `eos_token`, ….
        variants: Further templates of the tokenizer by name, such as `tool_use`.
        assistant_tokens: Special tokens that the assistant itself writes, such as `<think>`: in its
            text they are encoded as the token. All others would end a turn or begin one.
        markup: Markup that it writes around turns.
    """

    name: str
    source: str
    specials: Mapping[str, str]
    variants: Mapping[str, str] = field(default_factory=dict)
    assistant_tokens: frozenset[str] = frozenset()
    markup: TurnMarkup = field(default_factory=TurnMarkup)

    @property
    def marked(self) -> bool:
        """True if the template marks the assistant's text."""
        return is_marked(self.source)

    @property
    def serving(self) -> str | dict[str, str]:
        """Jinja source to save with a model, without the marks that only training uses.

        A tokenizer with several templates keeps all of them, by name.
        """
        default = _MARKS.sub("", self.source)
        if not self.variants:
            return default
        variants = {name: _MARKS.sub("", source) for name, source in self.variants.items()}
        return {"default": default, **variants}

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source that rows may be rendered with."""
        return (self.source, *(f"{name}: {self.variants[name]}" for name in sorted(self.variants)))

    def source_for(self, tools: object) -> str:
        """Return the source for a conversation with these tools, as Transformers chooses it."""
        return self.variants.get(TOOL_USE, self.source) if tools else self.source


def is_marked(source: str) -> bool:
    """Return whether a template marks the assistant's text."""
    return bool(_GENERATION.search(source))
