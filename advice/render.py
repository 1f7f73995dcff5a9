"""Rendering of an advice on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from advice.advise import Advice
from advice.candidate_jobs import METHODS
from advice.decision import Reason, ScoredApproach
from advice.document import advised_approach
from advice.facts import TITLES, TRAINED, Approach, Form, Step, fact_text
from advice.quotes import ApproachQuote
from planning.disk import format_count
from planning.ranges import Range, duration_range, money_range
from training.config.methods import title_of

_LEAST_USD = 0.01
_FORMS: dict[Form, str] = {
    "text": "texts",
    "answers": "prompts with answers",
    "preferences": "pairs of answers with a preference",
    "ratings": "answers rated good or bad",
    "prompts": "prompts without answers",
}
_STEP_TITLES: dict[Step, str] = {
    "continued_pretraining": "before: continue pre-training on texts of the domain (pretrain)",
    "vocabulary": "before: add terms of the domain to the vocabulary (model.add_tokens)",
    "supervised_first": "before: supervised fine-tuning on answers (sft)",
    "alignment": "after: learn from preferences (temper review, then dpo)",
    "reinforcement": "after: reinforcement learning with a reward that checks the result (grpo)",
}  # fmt: skip


def render_advice(advice: Advice, console: Console) -> None:
    """Print the advised approach with its reasons, the alternatives, and what is excluded."""
    references = _References()
    headline = Text.assemble(
        Text(f"{advice.question.source}  ", style="bold"),
        Text(f" {_title(advice, advised_approach(advice))} ", style="bold white on green"),
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in _rows(advice, references):
        table.add_row(name, text)
    console.print(headline)
    console.print(Padding(table, (0, 0, 0, 2)))
    for number, address in enumerate(references.numbered, start=1):
        console.print(Padding(Text(f"[{number}] {address}", style="dim"), (0, 0, 0, 2)))


class _References:
    """Sources of the reasons, numbered in order of their first mention."""

    def __init__(self) -> None:
        self.numbered: list[str] = []

    def line(self, reason: Reason) -> Text:
        """Return a reason with the number of its source."""
        source = f"{reason.source}, {reason.url}"
        if source not in self.numbered:
            self.numbered.append(source)
        number = Text(f"  [{self.numbered.index(source) + 1}]", style="dim")
        return Text.assemble(f"{reason.points:+d}  {reason.text}", number)


def _title(advice: Advice, approach: Approach) -> str:
    """Return the name of an approach, with the method that it trains with."""
    if approach not in TRAINED:
        return TITLES[approach]
    kind = advice.question.method or METHODS[advice.question.profile.form]
    return f"{TITLES[approach]} ({title_of(kind)})"


def _rows(advice: Advice, references: _References) -> Iterator[tuple[str, Text]]:
    """Yield the lines of the advice, each with its name."""
    facts, profile, decision = advice.facts, advice.question.profile, advice.decision
    template = "a" if facts.chat_template else "no"
    yield (
        "model",
        Text(
            f"{advice.question.model.source}: {format_count(facts.parameters)} parameters, "
            f"context of {facts.context:,} tokens, {template} chat template"
        ),
    )
    about = "" if profile.exact else "about "
    lengths = f"{facts.data_tokens / max(1, facts.rows):,.0f} tokens each"
    if profile.form != "text":
        lengths = f"{facts.prompt_tokens:,.0f} + {facts.answer_tokens:,.0f} tokens on average"
    yield "data", Text(f"{about}{facts.texts()['rows']}, {_FORMS[profile.form]}, {lengths}")
    if profile.bad[0]:
        yield (
            "",
            Text(
                f"{profile.bad[0]} of {len(profile.sample)} rows drawn cannot be used: "
                f"{profile.bad[1]}"
            ),
        )
    yield from (("", Text(note)) for note in advice.notes)
    yield "measured", Text(_measured(advice))
    assert decision.advised is not None
    reasons = decision.advised.reasons
    for_it = [references.line(reason) for reason in reasons if reason.points > 0]
    simplest = Text("no rule speaks for another approach, and this is the simplest one to try")
    yield from _named("because", for_it or [simplest])
    yield from _named("against", [references.line(r) for r in reasons if r.points < 0])
    for step, of_step in decision.steps.items():
        lines = [Text(_STEP_TITLES[step]), *(references.line(reason) for reason in of_step)]
        yield from _named("step", lines)
    quote = advice.quotes[decision.advised.approach]
    yield "price", Text(_price(quote))
    for scored in decision.alternatives:
        yield from _named("instead", [Text(line) for line in _alternative(advice, scored)])
    excluded = [scored for scored in decision.approaches if scored.excluded]
    lines = [Text(f"{TITLES[scored.approach]}: {scored.excluded}") for scored in excluded]
    yield from _named("not", lines)
    yield from _named("assumed", [Text(note) for note in quote.notes])
    if quote.job:
        yield (
            "next",
            Text("--out job.yaml writes the job, --trials FOLDER tries each approach"),
        )


def _named(name: str, lines: Sequence[Text]) -> Iterator[tuple[str, Text]]:
    """Yield lines, the first with a name."""
    for number, line in enumerate(lines):
        yield "" if number else name, line


def _measured(advice: Advice) -> str:
    """Return what was measured of the model on the rows, and what was not."""
    facts, probe = advice.facts, advice.probe
    parts = []
    if facts.fertility_ratio is not None:
        ratio = fact_text("fertility_ratio", facts.fertility_ratio)
        parts.append(f"{ratio} times the tokens per word of plain English")
    if probe.skipped:
        return "; ".join([*parts, f"the model was not run: {probe.skipped}"])
    if probe.bits_per_byte is not None and probe.domain_distance is not None:
        parts.append(
            f"{probe.bits_per_byte:.2f} bits per byte, a compressor {probe.compressed:.2f}: domain "
            f"distance {probe.domain_distance:.2f}"
        )
    if probe.answer_loss is not None:
        loss = f"loss {probe.answer_loss:.2f} nats per token on {probe.rows} answers"
        if probe.few_shot_loss is not None:
            loss += f", {probe.few_shot_loss:.2f} after {probe.examples} examples"
        parts.append(loss)
    return "; ".join(parts)


def _price(quote: ApproachQuote) -> str:
    """Return price and time of the advised approach."""
    parts = []
    if quote.job:
        parts.append(f"training: {_training(quote)}")
    else:
        parts.append("training: none")
    if quote.usd_per_1000 is not None:
        added = (
            f", {quote.added_tokens:,} tokens added to each prompt" if quote.added_tokens else ""
        )
        parts.append(f"1,000 requests at half load: {_requests(quote.usd_per_1000)}{added}")
    return "; ".join(parts)


def _training(quote: ApproachQuote) -> str:
    cost = money_range(quote.usd) if quote.usd.high else "free"
    line = f"{cost}, {duration_range(quote.hours)} on {quote.machine}"
    if quote.here_hours is None:
        return line
    return f"{line}; on this machine {duration_range(quote.here_hours)}"


def _alternative(advice: Advice, scored: ScoredApproach) -> Iterator[str]:
    """Yield what an alternative costs, and what would make it the advised approach."""
    yield f"{_title(advice, scored.approach)}, {_points(scored.points)}"
    yield _price(advice.quotes[scored.approach])
    yield f"advised with: {_change(advice, scored)}"


def _change(advice: Advice, scored: ScoredApproach) -> str:
    """Return what would make an alternative the advised approach."""
    changes = advice.changes.get(scored.approach)
    if changes:
        return "; or ".join(changes)
    advised = advice.decision.advised
    assert advised is not None
    lacking = advised.points - scored.points
    if not lacking:
        return f"equal points; {TITLES[advised.approach]} is simpler to try"
    return f"no single change: it lacks {_points(lacking)}"


def _points(number: int) -> str:
    return f"{number} point{'s' * (abs(number) != 1)}"


def _requests(usd: Range) -> str:
    return "less than 0.01 USD" if usd.high < _LEAST_USD else money_range(usd)
