"""Validity of answers as JSON, and against a JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from evaluation.config.scores import JsonSchema
from evaluation.metric import mean_metric
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome, metric_name
from training.errors import DataError
from training.rewards.json_schema import build_validator, strip_fence


class JsonSchemaScore:
    """Share of answers that are JSON, and that are valid against the schema.

    Args:
        section: Section of the score.
        context: Not used.

    Raises:
        DataError: The schema is not valid.
    """

    def __init__(self, section: JsonSchema, context: ScoreContext):
        self._section = section
        schema = section.schema_
        self._validator = None if schema is None else build_validator(schema, "score json_schema")
        self._by_schema: dict[str, Any] = {}

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `json_valid` and `schema_valid`.

        Raises:
            DataError: The schema of an item is missing or not valid.
        """
        parsed, valid, details = [], [], []
        for item in items:
            validator = self._validator or self._of(item)
            outcomes = [_examine(answer, validator) for answer in item.answers]
            parsed.append(sum(is_json for is_json, _ in outcomes) / len(outcomes))
            valid.append(sum(error is None for _, error in outcomes) / len(outcomes))
            details.append({"errors": [error for _, error in outcomes if error is not None]})
        names = ("json_valid", parsed), ("schema_valid", valid)
        metrics = tuple(
            mean_metric(metric_name(self._section, name), np.array(values))
            for name, values in names
        )
        return ScoreOutcome(metrics, tuple(details))

    def _of(self, item: AnsweredItem) -> Any:
        column = self._section.schema_column
        schema = item.fields.get(str(column))
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except ValueError:
                schema = None
        if not isinstance(schema, dict):
            raise DataError(
                f"score json_schema: item {item.id} has no JSON Schema in the column {column!r}. "
                f"It has {', '.join(sorted(item.fields))}"
            )
        key = json.dumps(schema, sort_keys=True)
        if key not in self._by_schema:
            self._by_schema[key] = build_validator(schema, f"score json_schema, item {item.id}")
        return self._by_schema[key]


def _examine(answer: str, validator: Any) -> tuple[bool, str | None]:
    """Return whether an answer is JSON, and the first error of it; None if it is valid."""
    try:
        value = orjson.loads(strip_fence(answer))
    except orjson.JSONDecodeError as error:
        return False, f"not JSON: {error}"
    try:
        first = next(validator.iter_errors(value), None)
    except RecursionError:  # a schema that refers to itself, and an answer nested deeply
        return True, "nested too deeply"
    return True, None if first is None else f"{first.json_path}: {first.message}"
