"""Special tokens that a template writes around turns, and those that the assistant may write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from training.data.schema.rows import RowError
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token")
_QUESTION, _ANSWER, _NEXT = "zqquestionqz", "zqanswerqz", "zqnextqz"


def assistant_tokens(
    render: Callable[[list[dict[str, Any]], bool], str],
    control: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
) -> frozenset[str]:
    """Return the special tokens that may stand in an assistant's text as tokens.

    A special token is part of the markup of turns if the tokenizer names it (end of text, padding,
    …), or if the template writes it in a user's turn, at the head of an assistant's turn or after
    its text. Others, such as `<think>` or those for filling in the middle, are words of the
    assistant: the model must learn their ids, as `apply_chat_template` encodes them.

    Args:
        render: Renders messages, with or without the head of the next answer.
        control: Special tokens of the tokenizer.
        tokenizer: Tokenizer, for the tokens that it names.

    Returns:
        The tokens; none if the template rejects a plain conversation, so nothing can be told.
    """
    user = {"role": "user", "content": _QUESTION}
    answer = {"role": "assistant", "content": _ANSWER}
    following = {"role": "user", "content": _NEXT}
    try:
        asked, head = render([user], False), render([user], True)
        before, _, after = render([user, answer, following], False).partition(_ANSWER)
    except (RowError, DataError):
        return frozenset()
    named = {str(getattr(tokenizer, role, None)) for role in _ROLES}
    return frozenset(
        token
        for token in control
        if token
        and token not in named
        and token not in asked
        and token not in after
        and not (token in head and token in before)
    )
