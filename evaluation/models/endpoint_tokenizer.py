"""Tokenizer of a model behind an endpoint, as its section names it."""

from __future__ import annotations

from typing import Any

from evaluation.items import Prompt
from evaluation.models.echoed_log_probs import EchoedPrompt
from evaluation.models.likelihood_plans import PROBE, TokenWindows
from evaluation.models.request_encoder import RequestEncoder
from evaluation.models.windows import text_windows
from training.errors import ModelError
from training.models.locate import explain_missing

_JOINED = 4
"""Tokens by which a template around a message may shorten it, where it joins its ends."""


class EndpointTokenizer:
    """Tokenizer of a model behind an endpoint.

    Args:
        source: Folder or Hub id.

    Raises:
        ModelError: It cannot be loaded.
    """

    def __init__(self, source: str):
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
        except Exception as error:
            raise ModelError(explain_missing("tokenizer", source, error)) from error
        self._source = source
        self._encoder = RequestEncoder(source, self._tokenizer)

    def check(self, echoed: EchoedPrompt) -> None:
        """Check that the endpoint makes as many tokens of the probe as this tokenizer.

        Raises:
            ModelError: It does not.
        """
        own = len(self._tokenizer(PROBE)["input_ids"])
        if own != len(echoed.log_probs):
            raise ModelError(
                f"tokenizer: {self._source} makes {own} tokens of {PROBE!r}, and the endpoint "
                f"{len(echoed.log_probs)}: name the tokenizer of the model that is served"
            )

    def continuation(self, prompt: Prompt, continuation: str) -> TokenWindows:
        """Return the plan of a continuation after a prompt."""
        return TokenWindows([self._encoder.pair(prompt, continuation)])

    def text(self, text: str, context_length: int) -> TokenWindows:
        """Return the plan of a text, in windows if it exceeds the context."""
        # A prompt has one token before the window, and the call generates one after it.
        return TokenWindows(list(text_windows(self._tokenizer, text, context_length - 2)))

    def least_tokens(self, prompt: Prompt) -> int:
        """Return a number of tokens that a prompt has at least, whatever template is used."""
        if isinstance(prompt, str):
            return self._length(prompt)
        return sum(max(0, self._length(str(one["content"])) - _JOINED) for one in prompt)

    def _length(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
