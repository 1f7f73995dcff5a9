"""Model card of a version, against the resource schema of AWS::SageMaker::ModelCard in cfn-lint."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from jsonschema import Draft7Validator

from registry.remote.model_card import model_card
from stacks.transitions.schemas import schema
from tests.unit.registry.test_model_package import METRIC, RECORD


def pascal(value: Any) -> Any:
    """Return a document with the keys of CloudFormation: `ModelOverview` for `model_overview`."""
    if isinstance(value, list):
        return [pascal(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        "".join(word.title() for word in key.split("_")): one
        if key in ("custom_details", "metadata")
        else pascal(one)
        for key, one in value.items()
    }


def problems(card: str) -> list[str]:
    resource = schema("AWS::SageMaker::ModelCard")
    content = {**resource["definitions"]["Content"], "definitions": resource["definitions"]}
    document = pascal(json.loads(card))
    return [error.message for error in Draft7Validator(content).iter_errors(document)]


def test_the_card_follows_the_schema() -> None:
    assert problems(model_card(RECORD, ["s3://models/a/"])) == []


def test_the_schema_finds_what_it_should() -> None:
    assert problems(model_card(RECORD, ["s3://models/a/"]).replace("training_details", "training"))


def test_the_card_of_a_package_has_no_package_and_a_short_overview() -> None:
    card = json.loads(model_card(RECORD, ["s3://models/a/"]))
    assert set(card["model_overview"]) == {"model_creator", "model_artifact"}
    assert "model_package_details" not in card
    (metric,) = card["evaluation_details"][0]["metric_groups"][0]["metric_data"]
    assert (metric["value"], metric["notes"]) == (0.75, "95 % interval 0.5 to 0.875, 40 items")


def test_a_card_of_many_results_is_short_enough() -> None:
    metrics = {f"task{n}.{'m' * 300}": METRIC for n in range(500)}
    evaluations = tuple({"suite": "s" * 99, "metrics": metrics} for _ in range(150))
    record = replace(RECORD, evaluations=evaluations, override="o" * 5000)
    card = model_card(record, [f"s3://models/{n}/" for n in range(40)])
    assert len(card) <= 100_000 and problems(card) == []
