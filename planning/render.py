"""Rendering of a plan on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from planning.disk import format_count
from planning.document import Plan, Range
from planning.managed.render import render_quotes
from planning.ranges import duration_range, money_range

_BAR = 30
_SMALLEST_GIB = 0.005
_COLOURS = {
    "weights": "blue",
    "gradients": "magenta",
    "optimizer": "cyan",
    "activations": "green",
    "logits": "yellow",
    "buffers": "bright_black",
    "fragmentation": "bright_black",
    "runtime": "bright_black",
}


def render_plan(plan: Plan, console: Console) -> None:
    """Print a plan; of a pipeline, each stage and then the total."""
    if not plan.memory_gib:
        console.print(Text(plan.name, style="bold"))
        console.print(Padding(render_quotes(plan), (0, 0, 1, 2)))
        return
    if not plan.stages:
        console.print(_one(plan))
        _render_managed(plan, console)
        return
    for number, stage in enumerate(plan.stages, start=1):
        console.print(Text(f"stage {number} of {len(plan.stages)}", style="dim"))
        console.print(_one(stage))
    console.print(_headline(plan))
    console.print(Padding(_facts(plan), (0, 0, 1, 2)))
    _render_managed(plan, console)


def _render_managed(plan: Plan, console: Console) -> None:
    if plan.managed:
        console.print(Padding(render_quotes(plan), (0, 0, 1, 2)))


def _one(plan: Plan) -> RenderableType:
    parts: list[RenderableType] = [_headline(plan), Text(f"  {_about(plan)}", style="dim"), Text()]
    parts += [Padding(_memory(plan), (0, 0, 1, 2)), Padding(_facts(plan), (0, 0, 1, 2))]
    return Group(*parts)


def _headline(plan: Plan) -> Text:
    memory = plan.memory_gib
    verdict = Text(" fits ", style="bold white on green")
    if not plan.fits:
        verdict = Text(" refused ", style="bold white on red")
    used = f"  {memory['total']:.1f} of {memory['device']:.1f} GiB on each device"
    return Text.assemble(Text(f"{plan.name}  ", style="bold"), verdict, used)


def _about(plan: Plan) -> str:
    trained = ""
    if plan.adapter:
        trained = f", {format_count(plan.learned)} trainable in the adapter ({plan.adapter})"
    elif plan.learned < plan.parameters:
        trained = f", {format_count(plan.learned)} of them trainable"
    active = ""
    if plan.active < plan.parameters:
        active = f" ({format_count(plan.active)} active per token)"
    return f"{format_count(plan.parameters)} parameters{active}{trained}, on {plan.machine}"


def _memory(plan: Plan) -> Table:
    memory = plan.memory_gib
    device = max(memory["device"], memory["total"])
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for part, gib in memory.items():
        if part in ("total", "device") or gib < _SMALLEST_GIB:
            continue
        bar = Text("█" * round(gib / device * _BAR) or "▏", style=_COLOURS.get(part, "white"))
        table.add_row(part, f"{gib:.2f}" if gib < 10 else f"{gib:.1f}", bar)
    left = memory["device"] - memory["total"]
    words, style = (f"{left:.1f} free", "green") if left >= 0 else (f"{-left:.1f} over", "red")
    table.add_row(
        Text("total", style="bold"),
        Text(f"{memory['total']:.1f}", style="bold"),
        Text.assemble("of ", f"{memory['device']:.1f} GiB, ", Text(words, style=style)),
    )
    return table


def _facts(plan: Plan) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, words in _rows(plan):
        table.add_row(name, Text(words))
    return table


def _suite(suite: dict[str, Any]) -> str:
    """Return the work of `evaluate.suite` as text."""
    models = "the trained model" + " and the one before" * (suite["models"] == 2)
    answers = f", at most {format_count(suite['new_tokens'])} generated"
    hours = Range(*(suite["seconds"][bound] / 3600 for bound in ("low", "high")))
    return (
        f"{suite['items']:,} items on {models}: {format_count(suite['forward_tokens'])} tokens "
        f"read{answers if suite['new_tokens'] else ''}, {duration_range(hours)}"
    )


def render_refusal(plan: Plan, source: str, console: Console) -> None:
    """Print the reasons why a job is refused, one line for each.

    Args:
        plan: The plan.
        source: Path of the job file.
        console: Output, usually standard error.
    """
    for reason in plan.refused:
        console.print(Text.assemble(Text(f"{source}: refused: ", style="bold red"), reason))


def _rows(plan: Plan) -> Iterator[tuple[str, str]]:
    if not plan.stages:
        rows, times = plan.micro_batch_size, plan.gradient_accumulation_steps
        yield (
            "step",
            f"micro-batch of {rows} row{'s' * (rows != 1)} on each device, "
            f"{times} accumulation step{'s' * (times != 1)}",
        )
    if plan.choices:
        yield "chosen", ", ".join(f"{key}: {_value(v)}" for key, v in plan.choices.items())
    length = f"{plan.steps:,} steps, {format_count(plan.tokens)} tokens"
    if plan.suite and not plan.stages:
        yield "suite", _suite(plan.suite)
    yield "time", f"{duration_range(plan.hours)}  ({length}, start-up included)"
    if plan.price:
        ways = {"on_demand": "on demand", "spot": "as spot"}
        costs = [f"{money_range(usd)} {ways[way]}" for way, usd in plan.costs_usd.items()]
        yield "cost", f"{', '.join(costs)}  ({plan.price})"
    elif "ml." in plan.machine:
        yield "cost", "the price of this instance is unknown; run temper prices"
    else:
        yield "cost", "none: the job runs on this machine"
    yield "disk", f"{plan.disk_gib['total']:.1f} GiB"
    for line in plan.arithmetic:
        yield "", line
    for note in plan.notes:
        yield "note", note


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
