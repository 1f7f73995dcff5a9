"""Price and time of each approach: training jobs by their plan, prompts by the plan of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from advice.candidate_jobs import candidate_document, candidate_job
from advice.facts import APPROACHES, TRAINED, Approach, Form
from advice.question import Question, Requirements
from planning.alternatives import alternatives
from planning.build import plan_here, plan_one
from planning.dataset_stats import read_dataset_stats
from planning.machine import this_machine
from planning.model_shape import ModelShape
from planning.ranges import Range
from planning.serving.options import serving_options
from planning.serving.workload import ServingWorkload
from planning.trainable_params import count_trainable
from training.config import Job
from training.errors import JobError

_PASSAGES, _PASSAGE_TOKENS = 5, 200
"""Passages that retrieval adds to a prompt, and the tokens of each: an assumption."""
_NOTHING = Range(0.0, 0.0)
_HALF_LOAD = 0.5
_HERE_HOURS = 24.0
_LIMIT_SHARE = 0.8
"""Share of a limit that the steps of a training on fewer rows use; starting it takes the rest."""
_ENOUGH_ROWS = 1000
"""Fewest rows of a training on a part of the data."""
_POSSIBLE: dict[Form, tuple[Approach, ...]] = {
    "text": ("rag", "lora", "qlora", "full"),
    "answers": APPROACHES,
    "preferences": ("prompting", "lora", "qlora", "full"),
    "ratings": ("prompting", "lora", "qlora", "full"),
    "prompts": ("prompting", "few_shot", "rag", "lora", "qlora", "full"),
}
_IMPOSSIBLE: dict[Form, str] = {
    "text": "the rows are texts without prompts and answers",
    "preferences": "the rows say which of two answers is better, not what to answer",
    "ratings": "the rows say which answers are good, not what to answer",
    "prompts": "the rows have no answers to learn",
}


@dataclass(frozen=True)
class ApproachQuote:
    """Price and time of an approach.

    Attributes:
        approach: The approach.
        excluded: Why it is impossible; empty if it is possible.
        machine: Instances of the training, or of the server of an approach that does not train.
        hours: Duration of the training; (0, 0) without one.
        usd: Cost of the training.
        here_hours: Duration on this machine; None if it does not fit here, or takes more than a
            day.
        memory_gib: Memory that the training needs on each device, and that the device has.
        added_tokens: Tokens that the approach adds to each prompt.
        usd_per_1000: Cost of 1,000 requests on a server at half load; None if none can serve it.
        ttft_s: Time from a request to the first token of its answer; None if none can serve it.
        trained_parameters: Weights that the training changes; 0 without one.
        job: Job as parsed YAML; empty without training.
        notes: Assumptions of the plan.
    """

    approach: Approach
    excluded: str = ""
    machine: str = ""
    hours: Range = _NOTHING
    usd: Range = _NOTHING
    here_hours: Range | None = None
    memory_gib: tuple[float, float] | None = None
    added_tokens: int = 0
    usd_per_1000: Range | None = None
    ttft_s: Range | None = None
    trained_parameters: int = 0
    job: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lengths:
    """Tokens of the rows, on average, and of the examples that a prompt can hold.

    Attributes:
        row: Tokens of a row.
        prompt: Tokens of a prompt.
        answer: Tokens of an answer.
        examples: Rows that fit the context next to one that is asked, at most five.
    """

    row: float
    prompt: float
    answer: float
    examples: int


def quote_all(
    question: Question, lengths: Lengths, template: str | None
) -> dict[Approach, ApproachQuote]:
    """Return the quote of every approach.

    Args:
        question: The question.
        lengths: Tokens of the rows.
        template: Chat template that conversations need.
    """
    form = question.profile.form
    quotes: dict[Approach, ApproachQuote] = {}
    for approach in APPROACHES:
        if approach not in _POSSIBLE[form]:
            quotes[approach] = ApproachQuote(approach, excluded=_IMPOSSIBLE[form])
            continue
        served = _served(question, approach, lengths)
        if approach in TRAINED and not served.excluded:
            document = candidate_document(question, approach, lengths.row, template)
            served = _trained(question, served, document)
        quotes[approach] = served
    return quotes


def _served(question: Question, approach: Approach, lengths: Lengths) -> ApproachQuote:
    """Return the part of a quote that every request costs."""
    added = shared = 0
    if approach == "few_shot":
        # The same examples precede every prompt, so that a server computes them once.
        added = shared = round(lengths.examples * (lengths.prompt + lengths.answer))
        if lengths.examples < 1:
            return ApproachQuote(approach, excluded=_no_room(question.shape, lengths))
    elif approach == "rag":
        added = _PASSAGES * _PASSAGE_TOKENS
        if lengths.row + added > question.shape.context:
            return ApproachQuote(approach, excluded=_no_room_for_passages(question.shape, lengths))
    prompt, answer = max(1, round(lengths.prompt) + added), max(1, round(lengths.answer))
    context = min(question.shape.context, max(2 * (prompt + answer), 512))
    workload = ServingWorkload(
        prompt,
        answer,
        max(context, prompt + answer),
        max_ttft_s=question.needs.max_ttft_s,
        shared_tokens=shared,
    )
    quote = ApproachQuote(approach, added_tokens=added)
    options = serving_options(question.shape, workload)
    if not options:
        limit = question.needs.max_ttft_s
        if limit is None:
            return quote
        return replace(
            quote,
            excluded=f"with {prompt} tokens in the prompt, no instance begins to answer within "
            f"{1000 * limit:.0f} ms",
        )
    best = options[0]
    rates = best.speed.requests_per_s
    per_1000 = (best.cost.hourly / (rate * _HALF_LOAD * 3.6) for rate in (rates.high, rates.low))
    return replace(
        quote,
        machine=f"ml.{best.placement.instance.name}",
        usd_per_1000=Range(*per_1000),
        ttft_s=best.speed.ttft_s,
    )


def _no_room(shape: ModelShape, lengths: Lengths) -> str:
    return (
        f"no example fits the context of {shape.context:,} tokens next to a row of "
        f"{lengths.row:,.0f}"
    )


def _no_room_for_passages(shape: ModelShape, lengths: Lengths) -> str:
    return (
        f"{_PASSAGES} passages of {_PASSAGE_TOKENS} tokens do not fit the context of "
        f"{shape.context:,} tokens next to a row of {lengths.row:,.0f}"
    )


def _trained(
    question: Question, quote: ApproachQuote, document: Mapping[str, Any]
) -> ApproachQuote:
    """Return a quote with the plan of its training: on fewer rows if all exceed a limit."""
    try:
        job = candidate_job(document, question.source)
        trained = count_trainable(job, question.shape)
        quote = replace(quote, job=document, trained_parameters=trained)
        planned = _planned(job, quote, question)
        exceeded = "" if planned.excluded else _over(planned, question.needs)
        if exceeded and (limit := _affordable_rows(planned, question)):
            smaller = {**document, "data": {**document["data"], "limit": limit}}
            quote = replace(quote, job=smaller)
            fewer = _planned(candidate_job(smaller, question.source), quote, question)
            if not fewer.excluded and not _over(fewer, question.needs):
                note = (
                    f"trained on the first {limit:,} of the rows (data.limit), to stay within the "
                    "limits; shuffle the file if its rows are sorted"
                )
                return replace(fewer, notes=(note, *fewer.notes))
    except JobError as error:
        return replace(quote, excluded="; ".join(map(str, error.problems)))
    return replace(planned, excluded=planned.excluded or exceeded)


def _planned(job: Job, quote: ApproachQuote, question: Question) -> ApproachQuote:
    """Return a quote with machine, time and price: of the named instance, or the cheapest."""
    quote = replace(quote, here_hours=_here(job, question.shape))
    if job.resources.instance is not None:
        plan = plan_one(job, question.shape)
        memory = (plan.memory_gib["total"], plan.memory_gib["device"])
        refused = plan.refused[0].partition(". ")[0] if plan.refused else ""
        return replace(
            quote,
            excluded=refused,
            machine=plan.machine,
            hours=plan.hours,
            usd=plan.cost_usd,
            memory_gib=memory,
            notes=plan.notes,
        )
    rows = read_dataset_stats(job, question.shape)
    offers = alternatives(job, question.shape, rows)
    if not offers:
        return replace(quote, excluded="no instance of the catalogue holds its training")
    best = offers[0]
    return replace(
        quote,
        machine=best.machine.description,
        hours=best.hours,
        usd=best.usd,
        notes=rows.notes,
    )


def _here(job: Job, shape: ModelShape) -> Range | None:
    """Return the hours of a job on this machine; None if it does not fit or takes days.

    Args:
        job: The job.
        shape: Shape of its model.
    """
    if shape.parameters / 2 > this_machine(None).device_gib * 2**30:
        return None  # not even in 4 bits
    plan = plan_here(job)
    own = plan.memory_gib["total"] <= plan.memory_gib["device"]
    return plan.hours if own and plan.hours.high <= _HERE_HOURS else None


def _affordable_rows(quote: ApproachQuote, question: Question) -> int:
    """Return how many rows a training within the limits has; 0 if they are too few to train on."""
    needs, shares = question.needs, [1.0]
    if needs.budget_usd is not None and quote.usd.high:
        shares.append(needs.budget_usd / quote.usd.high)
    if needs.max_hours is not None and quote.hours.high:
        shares.append(needs.max_hours / quote.hours.high)
    rows = int(_LIMIT_SHARE * min(shares) * question.profile.rows)
    return rows // 100 * 100 if rows >= _ENOUGH_ROWS else 0


def _over(quote: ApproachQuote, needs: Requirements) -> str:
    """Return which limit of the user a training exceeds; empty if it exceeds none."""
    if needs.budget_usd is not None and quote.usd.low > needs.budget_usd:
        return (
            f"costs {quote.usd.low:,.2f} to {quote.usd.high:,.2f} USD, and the budget is "
            f"{needs.budget_usd:,.2f}"
        )
    if needs.max_hours is not None and quote.hours.low > needs.max_hours:
        return (
            f"takes {quote.hours.low:.1f} to {quote.hours.high:.1f} hours, and "
            f"{needs.max_hours:.1f} are allowed"
        )
    return ""
