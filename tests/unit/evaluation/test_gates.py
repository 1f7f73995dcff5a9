"""Gates: read closed, checked before anything is evaluated, decided by the right bound."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from evaluation.config.gates import MetricGate, gate_problems
from evaluation.gates import GateError, check_gates, decide_gates
from evaluation.results import GateResult, MetricResult, PairedResult, TaskResult


def _task(
    *, difference: tuple[float, float, float] = (-0.01, -0.03, 0.01), higher: bool = True
) -> dict[str, TaskResult]:
    paired = PairedResult(*difference, 0.4, 0.4, "mcnemar", 10, 12, 178, 4000)
    metric = MetricResult(0.55, 0.48, 0.62, 200, higher_is_better=higher)
    return {
        "mmlu": TaskResult("d", 200, metrics={"accuracy": metric}, comparison={"accuracy": paired})
    }


def _decide(tasks: dict[str, TaskResult], **limit: Any) -> GateResult:
    return decide_gates([MetricGate(metric="mmlu.accuracy", **limit)], tasks)[0]


@pytest.mark.parametrize(
    ("limit", "passed"),
    [
        ({"at_least": 0.55}, True),
        ({"at_least": 0.56}, False),
        ({"at_most": 0.55}, True),
        ({"at_most": 0.54}, False),
        ({"lower_bound_at_least": 0.48}, True),
        ({"lower_bound_at_least": 0.5}, False),
        ({"max_drop": 0.03}, True),
        ({"max_drop": 0.029}, False),
    ],
)
def test_each_limit_is_decided_by_its_value(limit: dict[str, float], passed: bool) -> None:
    assert _decide(_task(), **limit).passed is passed


def test_a_drop_of_a_loss_is_a_rise() -> None:
    tasks = _task(difference=(0.01, -0.3, 0.02), higher=False)
    assert _decide(tasks, max_drop=0.02).passed
    assert not _decide(tasks, max_drop=0.015).passed


def test_a_gate_that_only_lacks_items_says_how_many_would_do() -> None:
    result = _decide(_task(), max_drop=0.02)
    # The interval reaches 0.02 below the difference, and 0.01 is left: a half needs four times.
    assert "about 800 would do" in result.reason
    assert "-0.01 (95 % interval -0.03 to +0.01" in result.reason


def test_a_drop_that_is_itself_too_large_promises_nothing() -> None:
    assert "would do" not in _decide(_task(difference=(-0.2, -0.3, -0.1)), max_drop=0.1).reason


def test_a_metric_without_a_value_is_not_passed() -> None:
    empty = {"mmlu": TaskResult("d", 3, skipped={"prompt longer than the context": 3})}
    assert not _decide(empty, at_most=1).passed
    assert "no value of mmlu.accuracy" in _decide(empty, at_most=1).reason
    assert not _decide({}, at_most=1).passed


def test_one_item_decides_no_bound() -> None:
    one = {"mmlu": TaskResult("d", 1, metrics={"accuracy": MetricResult(1.0, 1.0, 1.0, 1)})}
    assert not _decide(one, lower_bound_at_least=0.5).passed
    assert _decide(one, at_least=0.5).passed


def test_failed_gates_are_one_error_that_names_each() -> None:
    gates = [
        MetricGate(metric="mmlu.accuracy", at_least=0.9),
        MetricGate(metric="mmlu.accuracy", at_most=0.1),
        MetricGate(metric="mmlu.accuracy", at_least=0.1),
    ]
    with pytest.raises(GateError) as error:
        check_gates(decide_gates(gates, _task()))
    assert error.value.exit_code == 4
    assert str(error.value).splitlines() == [
        "2 of 3 gates not passed",
        "  mmlu.accuracy at least 0.9: the value is 0.55 on 200 items (95 % interval 0.48 to 0.62)",
        "  mmlu.accuracy at most 0.1: the value is 0.55 on 200 items (95 % interval 0.48 to 0.62)",
    ]
    check_gates(decide_gates(gates[2:], _task()))


@pytest.mark.parametrize("limits", [{}, {"at_least": 0.1, "max_drop": 0.1}])
def test_a_gate_has_exactly_one_limit(limits: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="exactly one of at_least"):
        MetricGate(metric="mmlu.accuracy", **limits)


def test_a_metric_names_its_task() -> None:
    with pytest.raises(ValidationError, match="pattern"):
        MetricGate(metric="accuracy", at_least=0.1)


def test_gates_that_cannot_be_decided_are_all_found_before_evaluating() -> None:
    gates = [
        MetricGate(metric="mmlu.accuracy", max_drop=0.02),
        MetricGate(metric="mmlu.f1", at_least=0.2),
        MetricGate(metric="gsm8k.f1", at_least=0.2),
        MetricGate(metric="chat.anything", at_least=0.2),
    ]
    metrics = {"mmlu": ["accuracy", "accuracy_norm"], "chat": None}
    problems = [str(problem) for problem in gate_problems(gates, metrics, against=False)]
    assert [problem.partition(":")[0] for problem in problems] == [
        "gates.0.max_drop",
        "gates.1.metric",
        "gates.2.metric",
    ]
    assert "Metrics of mmlu: accuracy, accuracy_norm" in problems[1]
    assert "Tasks of the suite: mmlu, chat" in problems[2]
    assert len(gate_problems(gates, metrics, against=True)) == 2
