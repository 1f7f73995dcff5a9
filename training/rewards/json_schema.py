"""Whether an answer is JSON of a given form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from jsonschema import SchemaError
from jsonschema.validators import validator_for

from training.config.rewards import JsonSchema
from training.data.rows import PromptRow
from training.errors import DataError
from training.rewards.reward import Place, Prompt, Reward

_FENCE = "```"


class _JsonSchema:
    def __init__(self, section: JsonSchema, validator: Any):
        self._parses = section.parses
        self._validator = validator

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return [self._fits(answer) for answer in completions]

    def _fits(self, answer: str) -> float:
        try:
            value = orjson.loads(_unfenced(answer))
        except orjson.JSONDecodeError:
            return 0.0
        return 1.0 if self._validator.is_valid(value) else self._parses


def _unfenced(answer: str) -> str:
    """Return the JSON of an answer that puts it between Markdown fences."""
    text = answer.strip()
    if not (text.startswith(_FENCE) and text.endswith(_FENCE) and "\n" in text):
        return text
    return text[text.index("\n") : -len(_FENCE)]


def build(section: JsonSchema, place: Place) -> Reward:
    """Return the reward.

    Raises:
        DataError: What the job gives is no JSON Schema.
    """
    kind = validator_for(section.schema_)
    try:
        kind.check_schema(section.schema_)
    except SchemaError as error:
        where = ".".join(map(str, error.absolute_path)) or "it"
        raise DataError(
            f"reward json_schema: schema is not valid at {where}: {error.message}"
        ) from None
    return _JsonSchema(section, kind(section.schema_))
