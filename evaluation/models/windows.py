"""Token ids of likelihood requests, as lm-eval 0.4.13 makes them, so that scores are comparable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TokenRequest:
    """Tokens whose likelihood is asked.

    Attributes:
        context: Tokens before them; at least one.
        continuation: The tokens.
    """

    context: list[int]
    continuation: list[int]

    @property
    def ids(self) -> list[int]:
        """Input of the model: the last token predicts nothing."""
        return [*self.context, *self.continuation][:-1]


def encode_pair(tokenizer: Any, context: str, continuation: str) -> TokenRequest:
    """Return the tokens of a continuation after a context.

    White space at the end of the context moves to the continuation, since tokenizers join it to
    the word that follows. The context is as many tokens of both as it has alone.

    Args:
        tokenizer: Tokenizer; its own special tokens are added.
        context: Text before the continuation; a token that starts texts, if it is empty.
        continuation: The text.
    """
    stripped = context.rstrip()
    continuation, context = context[len(stripped) :] + continuation, stripped
    if not context:
        ids = tokenizer(continuation, add_special_tokens=False)["input_ids"]
        return TokenRequest([prefix_id(tokenizer)], list(ids))
    both = tokenizer(context + continuation)["input_ids"]
    length = len(tokenizer(context)["input_ids"])
    return TokenRequest(list(both[:length]), list(both[length:]))


def text_windows(tokenizer: Any, text: str, context_length: int) -> Iterator[TokenRequest]:
    """Yield disjoint windows of a text's tokens, each with at least one token before it.

    As in lm-eval, a token that starts texts precedes the tokens of the text, also if the tokenizer
    starts it with such a token itself, which is then predicted, too. Each window but the first
    sees as many earlier tokens as fit.

    Args:
        tokenizer: Tokenizer; its own special tokens are added.
        text: The text.
        context_length: Longest input of the model, in tokens.
    """
    ids: Sequence[int] = tokenizer(text)["input_ids"]
    first = min(context_length, len(ids))
    if first:
        yield TokenRequest([prefix_id(tokenizer)], list(ids[:first]))
    start = first
    while start < len(ids):
        length = min(len(ids) - start, context_length)
        end = start + length
        window = ids[end - context_length - 1 : end]
        yield TokenRequest(list(window[: len(window) - length]), list(ids[start:end]))
        start = end


def prefix_id(tokenizer: Any) -> int:
    """Return the token that starts texts: BOS, or EOS of a tokenizer without one."""
    bos = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id if bos is None else bos)
