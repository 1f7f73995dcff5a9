"""What the hours cost."""

from __future__ import annotations

from catalog.prices import Price, price
from planning.document import Range
from planning.machine import Machine


def cost_usd(machine: Machine, hours: Range, *, spot: bool) -> tuple[Range, Price | None]:
    """Low and high in dollars, and the price they rest on; nothing where it costs nothing.

    Spot: from the cheapest that is seen to what on-demand costs, which it never exceeds.
    """
    known = price(machine.instance.name) if machine.rented else None
    if known is None:
        return Range(0.0, 0.0), None
    low = known.spot_low_usd if spot else known.on_demand_usd
    high = known.on_demand_usd
    return Range(hours.low * low * machine.count, hours.high * high * machine.count), known


def costs_usd(machine: Machine, hours: Range) -> dict[str, Range]:
    """Low and high in dollars for each way to pay: `on_demand`, and `spot` where that is sold."""
    usual, known = cost_usd(machine, hours, spot=False)
    if known is None:
        return {}
    found = {"on_demand": usual}
    if known.spot_low_usd < known.on_demand_usd:
        found["spot"] = cost_usd(machine, hours, spot=True)[0]
    return found
