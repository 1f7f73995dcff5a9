"""Log-probabilities of given text, as the legacy completions API returns them with `echo`.

https://platform.openai.com/docs/api-reference/completions: the tokens of prompt and answer are in
`logprobs.tokens`, their log-probabilities in `token_logprobs`, and `text_offset` counts characters.
The first token of a prompt has none. vLLM returns this shape; llama.cpp returns that of chat
completions (`logprobs.content`), which has generated tokens alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.judges.retries import UnreadableError

_BLANKS = re.compile(r"[\s\u2581\u0120]+")
"""White space, and how SentencePiece (▁) and byte-level BPE (Ġ) write a space."""


class EchoError(UnreadableError):
    """Response without usable log-probabilities of the prompt's tokens."""


@dataclass(frozen=True)
class EchoedPrompt:
    """Log-probabilities of the tokens of a prompt.

    Attributes:
        log_probs: Log-probability of each token, in nats; None of the first.
        greedy: True for each token that is the most likely one.
        first: Text of the first token.
    """

    log_probs: tuple[float | None, ...]
    greedy: tuple[bool, ...]
    first: str

    def to_text(self) -> str:
        """Return what is cached."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> EchoedPrompt:
        """Return the log-probabilities that were cached as a text."""
        document = json.loads(text)
        return cls(tuple(document["log_probs"]), tuple(document["greedy"]), document["first"])

    def nats(self, start: int) -> float:
        """Return the sum of the log-probabilities from the token of this number on."""
        return math.fsum(value for value in self.log_probs[start:] if value is not None)

    def starts_before(self, text: str) -> bool:
        """Return True if the endpoint puts a token of its own before a text."""
        return not _plain(text).startswith(_plain(self.first)) or not self.first


def parse_echo(body: Any, prompt: str | Sequence[int]) -> EchoedPrompt:
    """Return the log-probabilities in a response.

    Args:
        body: The response.
        prompt: Text or token ids that were sent.

    Raises:
        EchoError: They are not there, or do not cover the prompt.
    """
    try:
        choice = body["choices"][0]
        logprobs = choice.get("logprobs") or {}
        count = (body.get("usage") or {}).get("prompt_tokens")
        text = str(choice.get("text") or "")
    except (KeyError, TypeError, IndexError, AttributeError):
        raise EchoError(f"this is no completion: {str(body)[:120]}") from None
    if not isinstance(logprobs, dict) or not isinstance(logprobs.get("token_logprobs"), list):
        raise EchoError(_missing(logprobs))
    values, tokens = logprobs["token_logprobs"], logprobs.get("tokens") or []
    # The response ends with the one token that the call generates.
    count = len(values) - 1 if count is None else int(count)
    if isinstance(prompt, str) and prompt not in text:
        raise EchoError(
            f"the echo does not hold the text that was sent: it is {len(text)} characters long, "
            f"and the text {len(prompt)}"
        )
    if not isinstance(prompt, str) and count != len(prompt):
        raise EchoError(f"{len(prompt)} tokens were sent, and the endpoint counts {count}")
    if len(values) < count or len(tokens) < count or count < 1:
        raise EchoError(
            f"there are log-probabilities of {len(values)} tokens, and the prompt has {count}"
        )
    _check_offsets(logprobs.get("text_offset"), count)
    missing = [number for number in range(1, count) if not _is_number(values[number])]
    if missing:
        raise EchoError(f"token {missing[0]} of {count} has no log-probability")
    first = values[0] if _is_number(values[0]) else None
    log_probs = (first, *(float(value) for value in values[1:count]))
    greedy = tuple(_is_best(logprobs.get("top_logprobs"), values, n) for n in range(count))
    return EchoedPrompt(log_probs, greedy, str(tokens[0]))


def check_coverage(body: Any, prompt: str) -> None:
    """Check that the tokens of an echo are those of the whole text that was sent.

    Args:
        body: The response, which `parse_echo` accepts.
        prompt: The text.

    Raises:
        EchoError: They are those of a part of it.
    """
    joined = _plain("".join(map(str, body["choices"][0]["logprobs"]["tokens"])))
    if _plain(prompt) not in joined:
        raise EchoError(f"the tokens are those of another text than was sent: {joined[:120]!r}")


def _missing(logprobs: Any) -> str:
    if isinstance(logprobs, dict) and "content" in logprobs:
        return (
            "logprobs have the shape of chat completions (logprobs.content), which holds generated "
            "tokens and none of the text that was sent; llama.cpp's server answers so"
        )
    return "the response has no logprobs.token_logprobs"


def _check_offsets(offsets: Any, count: int) -> None:
    """Check the offsets of the prompt's tokens, if there are any.

    Raises:
        EchoError: The first is not the start of the text, or they are too few.
    """
    if not isinstance(offsets, list) or not offsets:
        return
    if len(offsets) < count:
        raise EchoError(f"text_offset has {len(offsets)} entries, and the prompt {count} tokens")
    if offsets[0] != 0:
        raise EchoError(f"the echo starts at character {offsets[0]} of the text (text_offset)")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_best(top: Any, values: Sequence[Any], number: int) -> bool:
    """Return True if no listed alternative to a token is more likely."""
    try:
        return bool(values[number] >= max(top[number].values()))
    except (TypeError, IndexError, AttributeError, ValueError):
        return False


def _plain(text: str) -> str:
    return _BLANKS.sub("", text)
