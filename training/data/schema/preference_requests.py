"""Preference rows as the fine-tuning services of OpenAI, Azure and others take them.

A row has `input` (a request with `messages` and maybe `tools`), `preferred_output` and
`non_preferred_output` (https://developers.openai.com/api/docs/guides/direct-preference-optimization).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

_REQUEST, _PREFERRED, _OTHER = "input", "preferred_output", "non_preferred_output"


def with_request_as_prompt(values: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Return a record with the columns `prompt`, `chosen`, `rejected` and `tools`.

    Other records are returned unchanged. Other settings of the request become columns.

    Args:
        values: Record of a source.
        given: Columns that the job names, which keep their names.
    """
    if (
        _PREFERRED not in values
        or _OTHER not in values
        or not isinstance(request := values.get(_REQUEST), dict)
    ):
        return values
    if "messages" not in request or {_REQUEST, _PREFERRED, _OTHER} & {*given}:
        return values
    others = {k: v for k, v in values.items() if k not in (_REQUEST, _PREFERRED, _OTHER)}
    settings = {key: value for key, value in request.items() if key != "messages"}
    sides = {"chosen": values[_PREFERRED], "rejected": values[_OTHER]}
    return {**others, **settings, "prompt": request["messages"], **sides}
