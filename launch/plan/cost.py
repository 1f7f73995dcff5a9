"""What the hours cost."""

from __future__ import annotations

from catalog.prices import Price, price
from launch.plan.document import Range
from launch.plan.machine import Machine


def cost_usd(machine: Machine, hours: Range, *, spot: bool) -> tuple[Range, Price | None]:
    """Low and high in dollars, and the price they rest on; nothing where it costs nothing.

    Spot: from the cheapest that is seen to what on-demand costs, which it never exceeds.
    """
    if not machine.rented:
        return Range(0.0, 0.0), None
    known = price(machine.instance.name)
    if known is None:
        return Range(0.0, 0.0), None
    low = known.spot_low_usd if spot else known.on_demand_usd
    high = known.on_demand_usd
    return Range(hours.low * low * machine.count, hours.high * high * machine.count), known
