"""Tests that the rules of the images stack pass on the events that AWS documents."""

import json
from typing import Any

import pytest
from moto.events.models import EventPattern

from tests.infra.conftest import Assembly
from tests.infra.handlers import image_events as events
from tests.infra.permissions.resolved import ACCOUNT, ResolvedRoles

DIGEST = "sha256:" + "ab" * 32
GPU = {"repository": "temper-all/gpu"}
OTHER = {"repository": "somebody/else"}
CASES: list[tuple[str | None, dict[str, Any]]] = [
    ("Scanned", events.basic_scan(DIGEST, **GPU)),
    ("Scanned", events.basic_scan(DIGEST, "FAILED", **GPU)),
    ("Inspected", events.enhanced_scan(DIGEST, CRITICAL=7, **GPU)),
    ("Found", events.finding(DIGEST, "CRITICAL", **GPU)),
    (None, events.finding(DIGEST, "MEDIUM", **GPU)),
    (None, events.finding(DIGEST, "CRITICAL", "CLOSED", **GPU)),
    (None, events.basic_scan(DIGEST, **OTHER)),
    (None, events.enhanced_scan(DIGEST, **OTHER)),
    (None, events.finding(DIGEST, "CRITICAL", **OTHER)),
    ("Approved", events.approval()),
    ("Approved", events.approval(operation="Create")),
    (None, events.approval(operation="Delete")),
    (None, events.approval("other")),
]


def _patterns(assembly: Assembly) -> dict[str, dict[str, Any]]:
    roles = ResolvedRoles(assembly)
    return {
        logical_id.removeprefix("Promotion")[:-8]: roles.resolve(
            "images", resource["Properties"]["EventPattern"]
        )
        for logical_id, resource in assembly.templates["images"]["Resources"].items()
        if resource["Type"] == "AWS::Events::Rule"
    }


def _matches(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """Return whether a pattern matches; moto reads no objects in arrays, so each is tried."""
    detail = event["detail"]
    variants = [event]
    if isinstance(detail.get("resources"), list):
        variants = [{**event, "detail": {**detail, "resources": r}} for r in detail["resources"]]
    return any(EventPattern.load(json.dumps(pattern)).matches_event(v) for v in variants)


@pytest.mark.parametrize("index", range(len(CASES)))
def test_an_event_reaches_the_function_by_one_rule(everything: Assembly, index: int) -> None:
    rule, event = CASES[index]
    text = (
        json.dumps(event).replace(events.ACCOUNT, ACCOUNT).replace("/temper-dev/", "/temper-all/")
    )
    matching = [
        k for k, pattern in _patterns(everything).items() if _matches(pattern, json.loads(text))
    ]
    assert matching == ([rule] if rule else [])
