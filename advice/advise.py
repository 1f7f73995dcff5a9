"""Advice: the question, what was measured, the decision and its prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from advice.base_probe import BaseMeasurements, has_chat_template, measure_base, template_for
from advice.decision import RankedApproaches, changes_toward, decide
from advice.facts import TRAINED, Approach, Facts
from advice.question import Question
from advice.quotes import ApproachQuote, Lengths, quote_all
from advice.text_measures import count_words, reference_text
from planning.hub_cache import tokenizer_file
from planning.tokens import characters_per_token
from training.errors import JobError, Problem

_MOST_EXAMPLES = 5
_DEFAULT_CHARS = 4.0
_BITS_PER_TOKEN, _BITS_PER_WEIGHT = 1.0, 2.0
"""Estimates of what a token of a data set holds, and of what a weight stores. Their sources are in
`Facts.adapter_load`."""


@dataclass(frozen=True)
class Advice:
    """Advice on one question.

    Attributes:
        question: The question.
        facts: Facts by which the rules decided.
        probe: Measurements of the untrained model.
        decision: Approaches by points, and the steps around the advised one.
        quotes: Price and time of each approach.
        changes: Changes after which each alternative would be advised.
        notes: What a reader should know of the rows.
    """

    question: Question
    facts: Facts
    probe: BaseMeasurements
    decision: RankedApproaches
    quotes: dict[Approach, ApproachQuote]
    changes: dict[Approach, list[str]]
    notes: tuple[str, ...] = ()


def advise(question: Question, seconds: float) -> Advice:
    """Return the advice on a question.

    Args:
        question: The question.
        seconds: Time that running the model may take; 0 to not run it.

    Raises:
        JobError: No approach is possible.
        ModelError: The model cannot be read.
    """
    lengths, fertility = _measure_tokens(question)
    skipped = BaseMeasurements(skipped="not asked for (--measure-seconds 0)")
    probe = (
        measure_base(question.model, question.shape, question.profile, seconds)
        if seconds
        else skipped
    )
    quotes = quote_all(question, lengths, template_for(question.model, question.profile))
    facts = _facts(question, lengths, probe, quotes, fertility)
    excluded = {approach: quote.excluded for approach, quote in quotes.items() if quote.excluded}
    decision = decide(facts, excluded)
    if decision.advised is None or not any(quotes[approach].excluded == "" for approach in TRAINED):
        _refuse_if_too_large(question, quotes, decision)
    changes = {
        scored.approach: changes_toward(scored.approach, facts, excluded)
        for scored in decision.alternatives
    }
    return Advice(question, facts, probe, decision, quotes, changes, _notes(question, lengths))


def _notes(question: Question, lengths: Lengths) -> tuple[str, ...]:
    """Return what a reader should know of the rows."""
    profile, context = question.profile, question.shape.context
    if profile.form in ("text", "prompts") and profile.unread:
        return (
            f"not read: {', '.join(profile.unread)}. If one of these columns is the answer or the "
            "label, ask again with --set "
            "'data.train.columns.prompt=COLUMN data.train.columns.completion=COLUMN'",
        )
    if profile.form != "text" and lengths.row > context:
        return (
            f"a row has {lengths.row:,.0f} tokens on average, and the context {context:,}: most "
            "rows lose their end",
        )
    return ()


def _refuse_if_too_large(
    question: Question, quotes: dict[Approach, ApproachQuote], decision: RankedApproaches
) -> None:
    """Raise if nothing is possible, or no instance at all holds a training of the model.

    Raises:
        JobError: Nothing is possible, or no instance is large enough.
    """
    reasons = {quotes[approach].excluded for approach in ("lora", "qlora", "full")}
    too_large = question.needs.instance is None and reasons == {
        "no instance of the catalogue holds its training"
    }
    if decision.advised is not None and not too_large:
        return
    listed = "; ".join(f"{approach}: {quote.excluded}" for approach, quote in quotes.items())
    fix = "Name a smaller model" if too_large else "Allow more, or name another model"
    size = f"{question.shape.parameters / 1e9:.1f} billion parameters"
    message = f"no approach is possible with this model of {size}: {listed}"
    if too_large:
        message = f"no instance of the catalogue trains this model of {size}, not even as QLoRA"
    raise JobError(question.source, [Problem("model.source", message, question.model.source, fix)])


def _measure_tokens(question: Question) -> tuple[Lengths, float | None]:
    """Return the tokens of rows, and tokens per word relative to plain English, if measurable."""
    profile, shape = question.profile, question.shape
    file = tokenizer_file(question.model)
    per_token = characters_per_token(file, profile.texts) if file is not None else 0.0
    chars = per_token or _DEFAULT_CHARS
    prompt, answer = profile.prompt_chars / chars, profile.answer_chars / chars
    row = profile.row_chars / chars
    room = int((shape.context - row) // max(1.0, row))
    lengths = Lengths(row, prompt, answer, max(0, min(_MOST_EXAMPLES, room)))
    if file is None or not per_token:
        return lengths, None
    plain = reference_text()
    return lengths, _fertility(profile.texts, per_token) / _fertility(
        [plain], characters_per_token(file, [plain])
    )


def _fertility(texts: Sequence[str], per_token: float) -> float:
    """Return the tokens per word of texts.

    Args:
        texts: The texts.
        per_token: Characters per token in them.
    """
    words = sum(count_words(text) for text in texts)
    return sum(map(len, texts)) / per_token / max(1, words)


def _facts(
    question: Question,
    lengths: Lengths,
    probe: BaseMeasurements,
    quotes: dict[Approach, ApproachQuote],
    fertility: float | None,
) -> Facts:
    profile, needs = question.profile, question.needs
    facts = Facts(
        form=profile.form,
        rows=profile.rows,
        parameters=question.shape.parameters,
        context=question.shape.context,
        prompt_tokens=lengths.prompt,
        answer_tokens=lengths.answer,
        data_tokens=profile.rows * lengths.row,
        distinct_answers=profile.distinct_answers,
        grounding=profile.grounding,
        questions=profile.questions,
        verifiable=profile.verifiable,
        adapter_load=_adapter_load(question, lengths, quotes["lora"].trained_parameters),
        chat_template=has_chat_template(question.model),
        answer_loss=probe.answer_loss,
        few_shot_gain=probe.few_shot_gain,
        domain_distance=probe.domain_distance,
        fertility_ratio=fertility,
        changing_facts=needs.changing_facts,
        keep_general=needs.keep_general,
        tasks=needs.tasks,
    )
    lora, qlora, full = (_mean_usd(quotes[approach]) for approach in ("lora", "qlora", "full"))
    return replace(
        facts,
        qlora_saving=1 - qlora / lora if lora and qlora else None,
        full_cost_ratio=full / lora if lora and full else None,
    )


def _adapter_load(question: Question, lengths: Lengths, weights: int) -> float | None:
    """Return the bits of the learned tokens relative to those that a LoRA stores.

    Args:
        question: The question.
        lengths: Tokens of the rows.
        weights: Weights of the LoRA; 0 if it is impossible.
    """
    form = question.profile.form
    if not weights or form not in ("text", "answers"):
        return None
    learned = lengths.row if form == "text" else lengths.answer
    return question.profile.rows * learned * _BITS_PER_TOKEN / (weights * _BITS_PER_WEIGHT)


def _mean_usd(quote: ApproachQuote) -> float | None:
    """Return the middle of a price; None if there is none."""
    return (quote.usd.low + quote.usd.high) / 2 if quote.usd.high and quote.machine else None
