"""Reward for JSON that conforms to a schema."""

from __future__ import annotations

from collections.abc import Iterator
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
from training.rewards.base import PerAnswerReward, Reward, RewardContext

_FENCE = "```"


class _JsonSchemaReward(PerAnswerReward):
    def __init__(self, section: JsonSchemaReward, validator: Any):
        self._parses = section.parses
        self._validator = validator

    def score_answer(self, answer: str, row: PromptRow) -> float:
        try:
            value = orjson.loads(_strip_fence(answer))
        except orjson.JSONDecodeError:
            return 0.0
        try:
            return 1.0 if self._validator.is_valid(value) else self._parses
        except RecursionError:  # a schema that refers to itself, and an answer nested deeply
            return self._parses


def _strip_fence(answer: str) -> str:
    """Return an answer without the Markdown fence around it, if it has one."""
    text = answer.strip()
    if not (text.startswith(_FENCE) and text.endswith(_FENCE) and "\n" in text):
        return text
    return text[text.index("\n") : -len(_FENCE)]


def build(section: JsonSchemaReward, context: RewardContext) -> Reward:
    """Return the reward.

    Raises:
        DataError: The job's schema is not a valid JSON Schema, or refers to another document.
    """
    validator_class = validator_for(section.schema_)
    try:
        validator_class.check_schema(section.schema_)
    except SchemaError as error:
        location = ".".join(map(str, error.absolute_path)) or "the top level"
        raise DataError(
            f"reward json_schema: schema is not valid at {location}: {error.message}"
        ) from None
    # With the default registry, jsonschema would fetch a remote $ref over the network.
    validator = validator_class(section.schema_, registry=SPECIFICATIONS)
    for reference in _references(section.schema_):
        try:
            validator.evolve(schema={**section.schema_, "$ref": reference}).is_valid({})
        except RecursionError:
            raise DataError(
                f"reward json_schema: $ref {reference!r} leads back to itself without end"
            ) from None
        except (Unresolvable, _WrappedReferencingError):
            raise DataError(
                f"reward json_schema: schema refers to {reference!r}, which is not in it. Define "
                f"it under $defs, and refer to it as #/$defs/NAME"
            ) from None
    return _JsonSchemaReward(section, validator)


def _references(schema: Any) -> Iterator[str]:
    """Yield the `$ref`s of a schema, except in subschemas with an `$id`, which rebase them."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, list) or (isinstance(inner, dict) and "$id" not in inner):
            yield from _references(inner)
