"""Table of where a job can be trained: one's own machines and each provider, side by side."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planning.disk import format_count
from planning.document import Plan
from planning.managed_quote import ManagedQuote
from planning.ranges import duration_range, money_range

_MOST_REASONS = 3


def render_quotes(plan: Plan) -> RenderableType:
    """Return the table of a plan's offers, and below it their sources and what they leave out."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for title in ("target", "model", "price", "time"):
        table.add_column(title, no_wrap=title == "target")
    if plan.memory_gib:
        own = "sagemaker" if "ml." in plan.machine else "local"
        table.add_row(own, plan.machine, _own_price(plan), duration_range(plan.hours))
    for quote in plan.managed:
        if quote.refused:
            table.add_row(quote.provider, Text("refuses it, see below", style="red"), "", "")
        else:
            table.add_row(
                quote.provider,
                f"{quote.model}, {quote.technique}",
                _price(quote),
                "not published; usually hours",
            )
    return Group(table, Text(), *_notes(plan))


def _own_price(plan: Plan) -> str:
    if not plan.cost_usd.high:
        return "none" if "ml." not in plan.machine else "unknown"
    return f"{money_range(plan.cost_usd)}, by the second"


def _price(quote: ManagedQuote) -> str:
    tokens = (
        f"{format_count(quote.tokens.low)} to {format_count(quote.tokens.high)}"
        if quote.tokens.low != quote.tokens.high
        else format_count(quote.tokens.high)
    )
    if quote.billing == "instances":
        return "unknown" if quote.cost_usd is None else f"{quote.cost}, by the second"
    money = "unknown" if quote.cost_usd is None else money_range(quote.cost_usd)
    return f"{money}, for {tokens} tokens"


def _notes(plan: Plan) -> Iterator[Text]:
    for quote in plan.managed:
        if quote.price:
            yield Text(f"{quote.provider}: {quote.price}", style="dim")
        if quote.left:
            chosen = ", ".join(quote.left)
            yield Text(f"{quote.provider}: chosen by the provider: {chosen}", style="dim")
        for reason in quote.refused[:_MOST_REASONS]:
            yield Text(f"{quote.provider}: {reason}")
        if (more := len(quote.refused) - _MOST_REASONS) and more > 0:
            yield Text(f"{quote.provider}: and {more} more; temper train lists them all")
