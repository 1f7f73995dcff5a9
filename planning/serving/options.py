"""Choice of instance, dtype and tensor parallelism for a model and its requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from catalog.instances import instances
from planning.model_shape import ModelShape
from planning.serving.cost import EndpointCost, endpoint_cost
from planning.serving.placement import Placement, placements, supports
from planning.serving.speed import ServingSpeed, speed
from planning.serving.workload import ServingWorkload, WeightDtype

DTYPES: tuple[WeightDtype, ...] = ("bf16", "fp8")
_COMPARED_LOAD = 0.5


@dataclass(frozen=True)
class ServingOption:
    """One way to serve a model.

    Attributes:
        placement: Instance, dtype and parallelism.
        speed: Latency and throughput of one instance.
        cost: Cost of one instance.
        count: Number of instances that the rate of requests needs, by the slower estimate; 1 if
            it is not known.
    """

    placement: Placement
    speed: ServingSpeed
    cost: EndpointCost
    count: int = 1

    @property
    def usd_per_million(self) -> float:
        """Cost of a million generated tokens at half load, with the slower estimate."""
        return self.cost.per_million[_COMPARED_LOAD].high

    @property
    def hourly_usd(self) -> float:
        """Price of an hour of all instances, used or idle."""
        return self.count * self.cost.hourly


def serving_options(
    shape: ModelShape,
    workload: ServingWorkload,
    dtypes: Sequence[WeightDtype] = DTYPES,
    region: str | None = None,
) -> list[ServingOption]:
    """Return the instances that serve a model within the limits, the lowest hourly price first.

    Args:
        shape: Shape of the model.
        workload: Requests and limits, which the slower estimates must meet.
        dtypes: Dtypes of the weights to consider.
        region: Region of prices.
    """
    found: dict[tuple[str, int, str], ServingOption] = {}
    for instance in instances().values():
        device = instance.accelerator
        if device.kind != "cuda":
            continue  # Neuron's servers compile the model for fixed shapes: no estimate here
        for dtype in dtypes:
            if not supports(device, dtype):
                continue
            options = [
                option
                for placement in placements(shape, instance, dtype, workload)
                if (option := _option(shape, placement, workload, region)) is not None
            ]
            # Sizes of an instance type with the same devices differ in cores and price only.
            same = (device.name, instance.devices, dtype)
            options += [found[same]] if same in found else []
            if options:
                found[same] = min(options, key=_price)
    return sorted(found.values(), key=_price)


def _option(
    shape: ModelShape, placement: Placement, workload: ServingWorkload, region: str | None
) -> ServingOption | None:
    """Return an option with as many requests together as the limits allow; None if none does.

    Args:
        shape: Shape of the model.
        placement: Its placement.
        workload: Requests and limits.
        region: Region of prices.
    """
    together = placement.sequences
    while together:
        tried = replace(placement, sequences=together)
        reached = speed(shape, tried, workload)
        if _within(reached, workload):
            cost = endpoint_cost(tried, reached, region)
            count = _instances(reached, workload)
            return None if cost is None else ServingOption(tried, reached, cost, count)
        together //= 2
    return None


def _price(option: ServingOption) -> tuple[float, float]:
    return option.hourly_usd, option.usd_per_million


def _instances(reached: ServingSpeed, workload: ServingWorkload) -> int:
    if workload.requests_per_s is None:
        return 1
    return max(1, math.ceil(workload.requests_per_s / reached.requests_per_s.low))


def cheapest_tokens(options: Sequence[ServingOption]) -> ServingOption:
    """Return the option whose tokens cost least: the best one if it is never idle."""
    return min(options, key=lambda option: option.usd_per_million)


def _within(reached: ServingSpeed, workload: ServingWorkload) -> bool:
    ttft, token = workload.max_ttft_s, workload.max_token_s
    return (ttft is None or reached.ttft_s.high <= ttft) and (
        token is None or reached.loaded_token_s.high <= token
    )
