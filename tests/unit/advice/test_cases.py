"""The table of rules on situations whose right answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from advice.decision import RankedApproaches, decide
from advice.facts import Approach, Facts
from advice.rules import AdviceRule, read_rules
from validation.strict_yaml import load_yaml

CASES: list[dict[str, Any]] = load_yaml(Path(__file__).with_name("cases.yaml").read_text("utf-8"))[
    "cases"
]


def decided(case: dict[str, Any], rules: tuple[AdviceRule, ...] | None = None) -> RankedApproaches:
    excluded: dict[Approach, str] = dict.fromkeys(case.get("excluded", ()), "does not fit")
    return decide(Facts(**case["facts"]), excluded, rules)


def is_right(case: dict[str, Any], decision: RankedApproaches) -> bool:
    """Return whether a decision is that of the case."""
    assert decision.advised is not None
    best = {scored.approach for scored in (decision.advised, *decision.alternatives[:1])}
    return (
        decision.advised.approach == case["advised"]
        and set(decision.steps) == set(case.get("steps", ()))
        and not best & set(case.get("never", ()))
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_advice_is_right(case: dict[str, Any]) -> None:
    decision = decided(case)
    scores = {scored.approach: scored.points for scored in decision.approaches}
    assert decision.advised is not None
    assert decision.advised.approach == case["advised"], scores
    assert set(decision.steps) == set(case.get("steps", ()))
    assert is_right(case, decision), scores


@pytest.mark.parametrize("rule", read_rules(), ids=lambda rule: rule.id)
def test_no_rule_can_be_left_out(rule: AdviceRule) -> None:
    """Every rule decides a case: without it, the advice is wrong."""
    others = tuple(other for other in read_rules() if other != rule)
    assert [case["id"] for case in CASES if not is_right(case, decided(case, others))]
