"""Text of a serving plan: options, the arithmetic of the first, and the cost of tokens by load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from catalog.bedrock_import import FAMILIES, UNIT_STORAGE_USD, UNIT_USD_PER_MINUTE
from planning.document import Range
from planning.model_shape import ModelShape
from planning.serving.cost import (
    HOURS_PER_MONTH,
    active_hour_usd,
    break_even_hours,
)
from planning.serving.options import ServingOption, cheapest_tokens
from planning.serving.workload import ServingWorkload

_SHOWN = 8


def plan_lines(
    name: str, shape: ModelShape, workload: ServingWorkload, options: Sequence[ServingOption]
) -> Iterator[str]:
    """Yield the lines of a plan that has at least one option.

    Args:
        name: The model, as the user wrote it.
        shape: Its shape.
        workload: The requests.
        options: Options, the best first.
    """
    yield (
        f"{name}: {parameters(shape)} ({shape.family}); prompts of "
        f"{workload.prompt_tokens} tokens, answers of {workload.answer_tokens}, context "
        f"{workload.context}"
    )
    yield ""
    yield (
        f"{'instances':<23} {'weights':<7} {'TP':>2} {'copies':>6} {'together':>8} "
        f"{'first token':>14} {'next, alone':>12} {'next, loaded':>13} {'tokens/s':>15} "
        f"{'$/h':>7} {'$/M at 50 %':>11}"
    )
    for option in options[:_SHOWN]:
        yield _row(option)
    if len(options) > _SHOWN:
        yield f"and {len(options) - _SHOWN} more"
    yield ""
    yield from _arithmetic(options[0], workload)
    yield ""
    yield from _by_load(options)


def _row(option: ServingOption) -> str:
    place, reached = option.placement, option.speed
    copies = option.count * place.copies
    rate = Range(*(option.count * value for value in reached.answer_tokens_per_s))
    return (
        f"{_instances(option):<23} {place.dtype:<7} {place.tensor_parallel:>2} "
        f"{copies:>6} {copies * place.sequences:>8} {_ms(reached.ttft_s):>14} "
        f"{_ms(reached.token_s):>12} {_ms(reached.loaded_token_s):>13} "
        f"{_count(rate):>15} {option.hourly_usd:>7.2f} {_usd(option.cost.per_million[0.5]):>11}"
    )


def _instances(option: ServingOption) -> str:
    return f"{option.count} × ml.{option.placement.instance.name}"


def _arithmetic(option: ServingOption, workload: ServingWorkload) -> Iterator[str]:
    place = option.placement
    device = place.instance.accelerator
    per_request = place.cache_bytes_per_token * workload.context / 2**30
    yield (
        f"ml.{place.instance.name}: each {device.name} has {device.memory_gib:g} GiB: weights "
        f"{place.weights_gib:.1f}, a step {place.step_gib:.1f}, cache {place.cache_gib:.1f} GiB"
    )
    yield (
        f"  cache: {place.cache_bytes_per_token / 1024:.0f} KiB a token, {per_request:.2f} GiB "
        f"for the longest request; {place.sequences} requests of average length together"
    )
    yield (
        f"  speed: {device.bandwidth_gb_s:g} GB/s and {device.bf16_tflops:g} TFLOPS (16 bits) of "
        f"each device; shares of these peaks that servers reach are estimates"
    )
    if place.dtype == "fp8":
        yield "  fp8: the server quantizes the weights as it loads them; evaluate what is served"


def _by_load(options: Sequence[ServingOption]) -> Iterator[str]:
    yield "cost of a million generated tokens, prompts included, by load:"
    first, cheapest = options[0], cheapest_tokens(options)
    for option in (first,) if cheapest is first else (first, cheapest):
        costs = ", ".join(
            f"{load:.0%} ${_usd(cost)}" for load, cost in option.cost.per_million.items()
        )
        source = option.cost.source
        yield (
            f"  endpoint of {_instances(option)} ({option.placement.dtype}): {costs}; "
            f"${option.hourly_usd * HOURS_PER_MONTH:,.0f} a month, used or idle "
            f"({source.region}, {source.date})"
        )
    batch = cheapest.cost.per_million[1.0]
    yield f"  batch transform on ml.{cheapest.placement.instance.name}: ${_usd(batch)}, never idle"


def import_lines(shape: ModelShape, units: int, options: Sequence[ServingOption]) -> Iterator[str]:
    """Yield the cost of a model that Bedrock imports, and where an endpoint costs less.

    Args:
        shape: Shape of the model.
        units: Custom Model Units of a copy of the model; Bedrock tells them after the import.
        options: Endpoints, the best first.
    """
    if shape.family not in FAMILIES:
        yield f"Bedrock imports no {shape.family} models"
        return
    even = break_even_hours(options[0].hourly_usd, units)
    low, high = UNIT_USD_PER_MINUTE
    yield (
        f"Bedrock import with {units} Custom Model Units: ${_usd(active_hour_usd(units))} for an "
        f"active hour (${low:g} to ${high:g} a unit and minute, in windows of 5 minutes), "
        f"${units * UNIT_STORAGE_USD:.2f} a month of storage"
    )
    if even.low >= 24:
        yield f"  one copy costs less than {_instances(options[0])}, even if active all day"
        return
    yield (
        f"  {_instances(options[0])} costs less from {even.low:.1f} to {even.high:.1f} active "
        f"hours a day on"
    )


def parameters(shape: ModelShape) -> str:
    """Return the number of parameters of a model as text."""
    count = shape.parameters
    return f"{count / 1e9:.3g} B parameters" if count >= 1e8 else f"{count / 1e6:.3g} M parameters"


def _ms(seconds: Range) -> str:
    return f"{seconds.low * 1000:.0f}–{seconds.high * 1000:.0f} ms"


def _count(values: Range) -> str:
    return f"{values.low:,.0f}–{values.high:,.0f}"


def _usd(values: Range) -> str:
    low, high = sorted(values)
    return f"{low:.3g}–{high:.3g}"
