"""What an instance costs an hour, where, since when, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Price:
    """An hour of one instance, in US dollars.

    Attributes:
        on_demand_usd: Without any promise.
        spot_low_usd: Managed spot, at its cheapest.
        spot_high_usd: Managed spot at its dearest, which is the on-demand price.
        region: Where.
        date: As of when.
        source: Who says so.
    """

    on_demand_usd: float
    spot_low_usd: float
    spot_high_usd: float
    region: str
    date: str
    source: str


def price(name: str) -> Price | None:
    """The price of an instance type, with or without `ml.`; None where none is known."""
    table = _table()
    ec2 = table["on_demand"].get(name.removeprefix("ml."))
    if ec2 is None:
        return None
    usd = float(ec2) * table["sagemaker_over_ec2"]
    return Price(usd, 0.3 * usd, usd, table["region"], str(table["date"]), table["source"])


@cache
def _table() -> Any:
    return yaml.load(Path(__file__).with_name("prices.yaml").read_text("utf-8"), Loader=_LOADER)
