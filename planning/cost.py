"""Cost of a machine for a number of hours."""

from __future__ import annotations

from catalog.prices import Price, price
from planning.document import Range
from planning.machine import Machine


def cost_usd(machine: Machine, hours: Range, *, spot: bool) -> tuple[Range, Price | None]:
    """Return the cost in USD and the price it is based on; (0, 0) and None on this machine.

    Args:
        machine: The machine.
        hours: Duration.
        spot: True for spot capacity: the range is from the lowest observed spot price to the
            on-demand price, which a spot price never exceeds.
    """
    known = price(machine.instance.name) if machine.rented else None
    if known is None:
        return Range(0.0, 0.0), None
    low = known.spot_low_usd if spot else known.on_demand_usd
    high = known.on_demand_usd
    return Range(hours.low * low * machine.count, hours.high * high * machine.count), known


def costs_usd(machine: Machine, hours: Range) -> dict[str, Range]:
    """Return the cost in USD for each purchase option: `on_demand`, and `spot` if it is sold."""
    usual, known = cost_usd(machine, hours, spot=False)
    if known is None:
        return {}
    costs = {"on_demand": usual}
    if known.spot_low_usd < known.on_demand_usd:
        costs["spot"] = cost_usd(machine, hours, spot=True)[0]
    return costs
