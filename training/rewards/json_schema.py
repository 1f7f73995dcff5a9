"""Reward for JSON that conforms to a schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson
from jsonschema import SchemaError
from jsonschema.exceptions import _WrappedReferencingError
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing.exceptions import Unresolvable

from training.data.schema.rows import PromptRow
from training.errors import DataError
from training.rewards.base import PerAnswerReward, Reward

if TYPE_CHECKING:
    from training.config.rewards import JsonSchemaReward
    from training.rewards.context import RewardContext

_FENCE = "```"


class _JsonSchemaReward(PerAnswerReward):
    def __init__(self, section: JsonSchemaReward, validator: Any):
        self._parses = section.parses
        self._validator = validator

    def score_answer(self, answer: str, row: PromptRow) -> float:
        try:
            value = orjson.loads(strip_fence(answer))
        except orjson.JSONDecodeError:
            return 0.0
        try:
            return 1.0 if self._validator.is_valid(value) else self._parses
        except RecursionError:  # a schema that refers to itself, and an answer nested deeply
            return self._parses


def strip_fence(answer: str) -> str:
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
    return _JsonSchemaReward(section, build_validator(section.schema_, "reward json_schema"))


def build_validator(schema: dict[str, Any], user: str) -> Any:
    """Return a validator of a JSON Schema that reaches no network.

    Args:
        schema: The schema.
        user: What needs it, for the error message, such as `reward json_schema`.

    Raises:
        DataError: The schema is not a valid JSON Schema, or refers to another document.
    """
    validator_class = validator_for(schema)
    try:
        validator_class.check_schema(schema)
    except SchemaError as error:
        location = ".".join(map(str, error.absolute_path)) or "the top level"
        raise DataError(f"{user}: schema is not valid at {location}: {error.message}") from None
    # With the default registry, jsonschema would fetch a remote $ref over the network.
    validator = validator_class(schema, registry=SPECIFICATIONS)
    for reference in _references(schema):
        try:
            validator.evolve(schema={**schema, "$ref": reference}).is_valid({})
        except RecursionError:
            raise DataError(
                f"{user}: $ref {reference!r} leads back to itself without end"
            ) from None
        except (Unresolvable, _WrappedReferencingError):
            raise DataError(
                f"{user}: schema refers to {reference!r}, which is not in it. Define "
                f"it under $defs, and refer to it as #/$defs/NAME"
            ) from None
    return validator


def _references(schema: Any) -> Iterator[str]:
    """Yield the `$ref`s of a schema, except in subschemas with an `$id`, which rebase them."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, list) or (isinstance(inner, dict) and "$id" not in inner):
            yield from _references(inner)
