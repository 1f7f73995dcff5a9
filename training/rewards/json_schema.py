"""Whether an answer is JSON of a given form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from jsonschema import SchemaError
from jsonschema.exceptions import _WrappedReferencingError
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing.exceptions import Unresolvable

from training.config.rewards import JsonSchemaReward
from training.data.schema.rows import PromptRow
from training.errors import DataError
from training.rewards.base import Prompt, Reward, RewardContext

_FENCE = "```"


class _JsonSchema:
    def __init__(self, section: JsonSchemaReward, validator: Any):
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
        try:
            return 1.0 if self._validator.is_valid(value) else self._parses
        except RecursionError:  # a schema that refers to itself, and an answer nested deeply
            return self._parses


def _unfenced(answer: str) -> str:
    """Return the JSON of an answer that puts it between Markdown fences."""
    text = answer.strip()
    if not (text.startswith(_FENCE) and text.endswith(_FENCE) and "\n" in text):
        return text
    return text[text.index("\n") : -len(_FENCE)]


def build(section: JsonSchemaReward, place: RewardContext) -> Reward:
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
    # Without the registry, what a schema refers to would be fetched from wherever it says.
    validator = kind(section.schema_, registry=SPECIFICATIONS)
    for reference in _references(section.schema_):
        try:
            validator.evolve(schema={**section.schema_, "$ref": reference}).is_valid({})
        except RecursionError:
            raise DataError(
                f"reward json_schema: $ref {reference!r} leads back to itself without end"
            ) from None
        except (Unresolvable, _WrappedReferencingError):
            raise DataError(
                f"reward json_schema: schema refers to {reference!r}, which is not in it. Write "
                f"what it stands for under $defs, and refer to it as #/$defs/NAME"
            ) from None
    return _JsonSchema(section, validator)


def _references(schema: Any) -> Iterator[str]:
    """Yield what a schema refers to, except in parts with a name (`$id`) of their own."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, list) or (isinstance(inner, dict) and "$id" not in inner):
            yield from _references(inner)
