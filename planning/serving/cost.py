"""Cost of tokens on an endpoint by its load, and against Bedrock's import of models."""

from __future__ import annotations

from dataclasses import dataclass

from catalog.bedrock_import import UNIT_STORAGE_USD, UNIT_USD_PER_MINUTE
from catalog.prices import Price, price
from planning.document import Range
from planning.serving.placement import Placement
from planning.serving.speed import ServingSpeed

LOADS = (0.1, 0.5, 1.0)
HOURS_PER_MONTH = 730.0


@dataclass(frozen=True)
class EndpointCost:
    """Cost of an endpoint of one instance, in US dollars.

    Attributes:
        hourly: Price of an hour, used or idle.
        per_million: Cost of a million generated tokens, by load, the prompts included.
        source: Price of the instance, with date and Region.
    """

    hourly: float
    per_million: dict[float, Range]
    source: Price


def endpoint_cost(
    placement: Placement, speed: ServingSpeed, region: str | None
) -> EndpointCost | None:
    """Return the cost of an endpoint; None if the instance has no known on-demand price.

    Args:
        placement: Model on an instance.
        speed: Its speed.
        region: Region of the price.
    """
    known = price(placement.instance.name, region)
    if known is None or known.capacity_block:
        return None
    hourly = known.on_demand_usd
    fastest, slowest = speed.answer_tokens_per_s.high, speed.answer_tokens_per_s.low
    costs = {
        load: Range(*(hourly / (load * rate * 3600) * 1e6 for rate in (fastest, slowest)))
        for load in LOADS
    }
    return EndpointCost(hourly, costs, known)


def active_hour_usd(units: int) -> Range:
    """Return the price of an active hour of a model that Bedrock imported.

    Args:
        units: Custom Model Units of a copy of the model.
    """
    return Range(*(units * usd * 60 for usd in UNIT_USD_PER_MINUTE))


def break_even_hours(hourly: float, units: int) -> Range:
    """Return the active hours a day above which an endpoint costs less than the import.

    An imported model costs nothing while no request arrives, apart from its storage; it is charged
    in windows of five minutes from a request on.

    Args:
        hourly: Price of an hour of the endpoint.
        units: Custom Model Units of a copy of the model.
    """
    low, high = active_hour_usd(units)
    storage = units * UNIT_STORAGE_USD / HOURS_PER_MONTH
    return Range(*(min(24.0, 24 * max(0.0, hourly - storage) / usd) for usd in (high, low)))
