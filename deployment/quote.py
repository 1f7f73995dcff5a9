"""Price of a deployment, shown before any resource is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from catalog.prices import price

HOURS_PER_MONTH = 730


@dataclass(frozen=True)
class DeploymentQuote:
    """Price of a deployment.

    Attributes:
        what: Instances or units, such as `2 × ml.g5.xlarge`.
        hourly_usd: Price of an hour at the fewest copies with load; None if it is not known.
        idle_usd: Price of an hour without calls; None if it is not known.
        most_usd: Price of an hour at the most copies; None if it is not known.
        removed: When it is removed.
        source: Source of the prices.
        notes: Further lines, such as a commitment that cannot be ended.
    """

    what: str
    hourly_usd: float | None
    idle_usd: float | None
    most_usd: float | None
    removed: str
    source: str = ""
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the lines that are shown before the question."""
        lines = [f"  {self.what}"]
        if self.hourly_usd is None:
            lines.append("  price unknown: `temper prices` downloads the prices of the Region")
        else:
            month = (self.idle_usd or 0) * HOURS_PER_MONTH
            lines.append(f"  ${self.hourly_usd:,.2f} an hour in use ({self.source})")
            if self.most_usd and self.most_usd > self.hourly_usd:
                lines[-1] += f", up to ${self.most_usd:,.2f}"
            lines.append(f"  ${self.idle_usd or 0:,.2f} an hour idle, ${month:,.0f} a month")
        lines.append(f"  removed {self.removed}")
        return [*lines, *(f"  {note}" for note in self.notes)]


def instance_quote(
    instance: str,
    counts: tuple[int, int, int],
    removed: str,
    *,
    region: str | None = None,
    notes: tuple[str, ...] = (),
) -> DeploymentQuote:
    """Return the price of instances.

    Args:
        instance: Instance type.
        counts: Instances in use at least, idle, and at most.
        removed: When they are removed.
        region: Region of the price.
        notes: Further lines.
    """
    used, idle, most = counts
    what = f"{used} × {instance}" + (f", up to {most}" if most > used else "")
    found = price(instance, region)
    if found is None:
        return DeploymentQuote(what, None, None, None, removed, notes=notes)
    usd = found.on_demand_usd
    source = f"{found.source}, {found.region}, {found.date}"
    return DeploymentQuote(what, used * usd, idle * usd, most * usd, removed, source, notes)


def total_usd(instances: Mapping[str, int], region: str | None = None) -> float | None:
    """Return the price of an hour of the instances that run; None if one has no price."""
    total = 0.0
    for name, count in instances.items():
        found = price(name, region)
        if found is None:
            return None
        total += count * found.on_demand_usd
    return total
