"""JSON document of an advice."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from advice.advise import Advice
from advice.decision import Reason, ScoredApproach
from advice.facts import TITLES, Approach
from advice.quotes import ApproachQuote
from planning.ranges import Range


def advice_document(advice: Advice) -> dict[str, Any]:
    """Return an advice as JSON."""
    decision = advice.decision
    return {
        "source": advice.question.source,
        "model": advice.question.model.source,
        "data": advice.question.data.train[0].source,
        "advised": None if decision.advised is None else decision.advised.approach,
        "alternatives": [scored.approach for scored in decision.alternatives],
        "changes": {approach: list(changes) for approach, changes in advice.changes.items()},
        "steps": {step: [_reason(r) for r in reasons] for step, reasons in decision.steps.items()},
        "notes": list(advice.notes),
        "facts": asdict(advice.facts),
        "probe": asdict(advice.probe),
        "approaches": [
            _approach(scored, advice.quotes[scored.approach]) for scored in decision.approaches
        ],
    }


def _approach(scored: ScoredApproach, quote: ApproachQuote) -> dict[str, Any]:
    return {
        "approach": scored.approach,
        "title": TITLES[scored.approach],
        "points": scored.points,
        "excluded": scored.excluded,
        "reasons": [_reason(reason) for reason in scored.reasons],
        "machine": quote.machine,
        "hours": _range(quote.hours),
        "usd": _range(quote.usd),
        "hours_here": _range(quote.here_hours),
        "added_prompt_tokens": quote.added_tokens,
        "usd_per_1000_requests": _range(quote.usd_per_1000),
        "ttft_s": _range(quote.ttft_s),
        "job": dict(quote.job),
        "notes": list(quote.notes),
    }


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "rule": reason.rule,
        "points": reason.points,
        "text": reason.text,
        "source": reason.source,
        "url": reason.url,
    }


def _range(value: Range | None) -> dict[str, float] | None:
    return None if value is None else {"low": round(value.low, 4), "high": round(value.high, 4)}


def advised_approach(advice: Advice) -> Approach:
    """Return the advised approach, of which `advise` makes sure."""
    advised = advice.decision.advised
    assert advised is not None
    return advised.approach
