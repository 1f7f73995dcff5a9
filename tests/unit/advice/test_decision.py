"""Points, exclusions, and what would change the advice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advice.decision import changes_toward, decide
from advice.facts import Approach, Facts
from advice.rules import AdviceRule, read_rules
from tests.run_commands import ROOT

FACTS = Facts("answers", 300, 8_000_000_000, 32_768, chat_template=True)


def test_reasons_add_up_to_the_points() -> None:
    for scored in decide(FACTS, {}).approaches:
        assert scored.points == sum(reason.points for reason in scored.reasons)


def test_an_excluded_approach_is_never_advised() -> None:
    decision = decide(FACTS, {"lora": "does not fit", "qlora": "does not fit"})
    assert decision.advised is not None and decision.advised.approach not in ("lora", "qlora")
    assert not {"lora", "qlora"} & {scored.approach for scored in decision.alternatives}
    assert decide(FACTS, {scored.approach: "no" for scored in decision.approaches}).advised is None


def test_alternatives_differ_from_the_advised_approach() -> None:
    approaches = [scored.approach for scored in decide(FACTS, {}).alternatives]
    assert len(approaches) == 2 and "qlora" not in approaches


@pytest.mark.parametrize(
    ("approach", "change"),
    [
        ("few_shot", "fewer than 100 rows"),
        ("prompting", "fewer than 20 rows"),
        ("rag", "facts that change (--changing-facts)"),
    ],
)
def test_changes_that_would_change_the_advice(approach: Approach, change: str) -> None:
    assert change in changes_toward(approach, FACTS, {})


def test_a_fuller_adapter_is_a_change_toward_training_all_weights() -> None:
    many = replace(FACTS, rows=20_000, adapter_load=0.1, answer_loss=1.0)
    change = "answers that hold 0.5 times the bits that the LoRA stores, or more"
    assert changes_toward("full", many, {}) == [change]


def test_reasons_carry_the_numbers_of_the_question() -> None:
    (reason,) = [r for r in decide(FACTS, {}).approaches[0].reasons if r.rule == "hundreds-of-rows"]
    assert reason.text.startswith("300 rows")


@pytest.mark.parametrize("rule", read_rules(), ids=lambda rule: rule.id)
def test_every_rule_has_a_source_and_words(rule: AdviceRule) -> None:
    assert rule.source.finding and rule.reason(FACTS)
    assert rule.points or rule.add


def test_ids_are_unique() -> None:
    ids = [rule.id for rule in read_rules()]
    assert len(set(ids)) == len(ids)


def test_the_page_lists_every_source() -> None:
    page = (ROOT / "docs/advise.md").read_text()
    assert not [rule.source.url for rule in read_rules() if rule.source.url not in page]
