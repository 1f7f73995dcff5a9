"""Gates: what a challenger must show, and limits of trainings."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.promotion import PromotionDecision, decide_promotion
from evaluation.results import (
    EvaluatedModelInfo,
    EvaluationResult,
    GateResult,
    MetricResult,
    PairedResult,
    TaskResult,
)
from pipeline.config import GateStep, PipelineLimits
from pipeline.limits import reached_limit
from pipeline.state import PipelineRun

MODEL = EvaluatedModelInfo("runs/a/1", "d", "transformers")


def result(
    difference: float | None, p: float = 0.01, *, higher: bool = False, **changes: Any
) -> EvaluationResult:
    metric = MetricResult(2.0, 1.9, 2.1, 50, higher)
    pairs = {}
    if difference is not None:
        pairs["m"] = PairedResult(
            difference, difference - 0.1, difference + 0.1, p, p, "randomization", 1, 1, 1, 9
        )
    tasks = {"t": TaskResult("d", 50, metrics={"m": metric}, comparison=pairs)}
    against = None if difference is None else MODEL
    return EvaluationResult(**{"suite": "s", "suite_digest": "d", "model": MODEL,
                               "against": against, "tasks": tasks, **changes})  # fmt: skip


def decide(gate: GateStep, result: EvaluationResult) -> PromotionDecision:
    return decide_promotion(gate.conditions, result)


def gate(**keys: Any) -> GateStep:
    return GateStep.model_validate({"kind": "gate", "evaluation": "e", **keys})


@pytest.mark.parametrize(
    ("difference", "p", "higher", "is_open", "words"),
    [
        (-0.5, 0.01, False, True, "significantly better"),
        (-0.5, 0.20, False, False, "no difference is shown"),
        (+0.5, 0.01, False, False, "significantly worse"),
        (+0.5, 0.01, True, True, "significantly better"),
        (-0.5, 0.01, True, False, "significantly worse"),
        (0.0, 1.00, True, False, "no difference is shown"),
    ],
)
def test_only_a_significant_improvement_opens_a_gate(
    difference: float, p: float, higher: bool, is_open: bool, words: str
) -> None:
    decision = decide(gate(better=["t.m"]), result(difference, p, higher=higher))
    assert decision.is_open is is_open
    assert words in " ".join((*decision.met, *decision.unmet))


def test_the_first_version_is_decided_by_its_limits() -> None:
    first = result(None)
    assert decide(gate(better=["t.m"]), first).is_open
    closed = decide(gate(better=["t.m"], limits=[{"metric": "t.m", "at_most": 1.5}]), first)
    assert not closed.is_open
    assert closed.unmet[0].startswith("t.m at most 1.5")


def test_a_gate_of_the_suite_and_a_missing_score_close_it() -> None:
    failed = GateResult("t.m at most 1", False, "the value is 2")
    assert decide(gate(), result(-0.5, gates=(failed,))).unmet == ("t.m at most 1: the value is 2",)
    assert "no such score" in decide(gate(better=["t.other"]), result(-0.5)).unmet[0]


def trained(started: str, usd: float = 0.0, outcome: str = "promoted") -> PipelineRun:
    return PipelineRun(started, outcome, trained=True, cost_usd=usd)


NOW = "2026-11-29T12:00:00Z"


def test_the_cooldown_counts_trainings_that_were_completed() -> None:
    limits = PipelineLimits.model_validate({"cooldown": "6h"})
    unchanged = PipelineRun("2026-11-29T11:59:00Z", "unchanged")
    assert reached_limit(limits, [unchanged], 0, NOW) is None
    assert (
        reached_limit(limits, [trained("2026-11-29T11:00:00Z", outcome="failed")], 0, NOW) is None
    )
    assert reached_limit(limits, [trained("2026-11-29T05:59:00Z")], 0, NOW) is None
    limit = reached_limit(limits, [trained("2026-11-29T11:00:00Z"), unchanged], 0, NOW)
    assert limit is not None and limit.outcome == "cooling down"
    assert "5.0 h are left" in limit.detail


def test_the_budget_is_that_of_a_calendar_month() -> None:
    limits = PipelineLimits.model_validate({"cooldown": "0s", "max_monthly_cost": "100 USD"})
    history = [trained("2026-10-31T23:59:59Z", 90), trained("2026-11-01T00:00:00Z", 60, "failed")]
    assert reached_limit(limits, history, 40, NOW) is None
    limit = reached_limit(limits, history, 41, NOW)
    assert limit is not None and limit.outcome == "over budget"
    assert "$60.00 spent in 2026-11 and $41.00 for this training" in limit.detail


def test_the_number_of_trainings_is_limited() -> None:
    limits = PipelineLimits.model_validate({"cooldown": "0s", "max_monthly_runs": 1})
    assert reached_limit(limits, [trained("2026-10-31T00:00:00Z")], 0, NOW) is None
    limit = reached_limit(limits, [trained("2026-11-02T00:00:00Z")], 0, NOW)
    assert limit is not None and "max_monthly_runs is 1" in limit.detail
