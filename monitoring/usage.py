"""Latency, tokens and cost by model or adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.call import LoggedCall


@dataclass(frozen=True)
class Rates:
    """Price of a deployment.

    Attributes:
        usd_per_hour: Price of an hour of all its instances; None if it is billed by tokens.
        input_usd: Price of 1,000 tokens of prompts; None if it is billed by hours.
        output_usd: Price of 1,000 tokens of answers.
        logged_share: Share of the calls that the log has: the hours paid for the others, too.
    """

    usd_per_hour: float | None = None
    input_usd: float | None = None
    output_usd: float | None = None
    logged_share: float = 1.0


@dataclass(frozen=True)
class Usage:
    """Use of a model or adapter.

    Attributes:
        model: Its name.
        calls: Its calls.
        failed: Calls that ended in an error.
        prompt_tokens: Tokens of prompts; None if the log does not say.
        answer_tokens: Tokens of answers; None if the log does not say.
        latency_p50_s: Median latency; None if the log does not say.
        latency_p95_s: Latency that one call in twenty exceeds.
        first_token_p50_s: Median time to the first token.
        usd_per_1000_tokens: Cost of 1,000 tokens, of prompts and answers together; None without a
            price.
        cost_basis: How the cost was divided among adapters.
    """

    model: str
    calls: int
    failed: int
    prompt_tokens: int | None
    answer_tokens: int | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    first_token_p50_s: float | None
    usd_per_1000_tokens: float | None = None
    cost_basis: str = ""


def usage_by_model(calls: Sequence[LoggedCall], rates: Rates, hours: float) -> list[Usage]:
    """Return the use of each model or adapter, most calls first.

    An hour of instances is divided among adapters by the time that their calls took, if the log
    has it for all, and else by tokens: a call that waits for others counts in full.

    Args:
        calls: The calls.
        rates: Price of the deployment.
        hours: Hours that the calls span.
    """
    models: dict[str, list[LoggedCall]] = {}
    for call in calls:
        models.setdefault(call.model, []).append(call)
    timed = all(call.latency_s is not None for call in calls)
    everything = _weight(calls, timed=timed)
    return [
        _usage(name, of_model, rates, hours, (_weight(of_model, timed=timed), everything), timed)
        for name, of_model in sorted(models.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _usage(
    name: str,
    calls: Sequence[LoggedCall],
    rates: Rates,
    hours: float,
    weights: tuple[float, float],
    timed: bool,
) -> Usage:
    sent = _total([call.prompt_tokens for call in calls])
    received = _total([call.answer_tokens for call in calls])
    latencies = [call.latency_s for call in calls if call.latency_s is not None]
    first = [call.first_token_s for call in calls if call.first_token_s is not None]
    cost, basis = None, ""
    if sent is not None and received is not None and sent + received:
        if rates.usd_per_hour is not None and weights[1]:
            hourly = rates.usd_per_hour * rates.logged_share
            spent = hourly * hours * weights[0] / weights[1]
            cost, basis = 1000 * spent / (sent + received), "time" if timed else "tokens"
        elif rates.input_usd is not None:
            spent = (sent * rates.input_usd + received * (rates.output_usd or 0)) / 1000
            cost, basis = 1000 * spent / (sent + received), "price of tokens"
    return Usage(
        name,
        len(calls),
        sum(call.failed for call in calls),
        sent,
        received,
        _quantile(latencies, 0.5),
        _quantile(latencies, 0.95),
        _quantile(first, 0.5),
        cost,
        basis,
    )


def _weight(calls: Sequence[LoggedCall], *, timed: bool) -> float:
    if timed:
        return sum(call.latency_s or 0.0 for call in calls)
    return float(sum((call.prompt_tokens or 0) + (call.answer_tokens or 0) for call in calls))


def _total(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _quantile(values: Sequence[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None
