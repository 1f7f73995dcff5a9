"""Token ids of the requests of an evaluation."""

from __future__ import annotations

from typing import Any

from evaluation.items import Prompt
from evaluation.models.windows import TokenRequest, encode_pair
from training.data.schema.rows import Message
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import ModelError

NO_LENGTH_LIMIT = 1 << 20
"""Context of a model that states none, in tokens."""


class RequestEncoder:
    """Encoder of prompts and continuations into token ids.

    Args:
        source: The model as the user wrote it, for messages.
        tokenizer: Its tokenizer.
    """

    def __init__(self, source: str, tokenizer: Any):
        self._source, self._tokenizer = source, tokenizer
        self._rows = RowTokenizer.from_tokenizer(
            tokenizer, chat_template=None, want="prompt", max_length=NO_LENGTH_LIMIT
        )

    @property
    def end_ids(self) -> list[int]:
        """Tokens that end an answer."""
        return list(self._rows.end_ids)

    def pair(self, prompt: Prompt, continuation: str) -> TokenRequest:
        """Return the tokens of a continuation after a prompt.

        Args:
            prompt: Text, or a conversation.
            continuation: The text after it.

        Raises:
            ModelError: The prompt is a conversation, and the tokenizer has no chat template.
        """
        if isinstance(prompt, str):
            return encode_pair(self._tokenizer, prompt, continuation)
        context = self._conversation_ids(prompt)
        ids = self._tokenizer(continuation, add_special_tokens=False)["input_ids"]
        return TokenRequest(context, list(ids))

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt.

        Raises:
            ModelError: It is a conversation, and the tokenizer has no chat template.
        """
        if isinstance(prompt, str):
            return list(self._tokenizer(prompt)["input_ids"])
        return self._conversation_ids(prompt)

    def _conversation_ids(self, messages: list[Message]) -> list[int]:
        if self._rows.template is None:
            raise ModelError(
                f"{self._source} has no chat template, and a task of the suite asks through it "
                "(chat: true). Leave out chat, or evaluate a model that was trained with a template"
            )
        return self._rows.prompt_ids(messages)
