"""What an instance costs an hour, where, since when, and who says so.

The dated table beside this file, or, where somebody with credentials ran `make prices`, what AWS's
price list answered then.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Price:
    """An hour of one instance in a SageMaker training job, in US dollars.

    Attributes:
        on_demand_usd: Without any promise.
        spot_low_usd: Managed spot, at its cheapest; at its dearest it is the on-demand price.
        region: Where.
        date: As of when.
        source: Who says so.
    """

    on_demand_usd: float
    spot_low_usd: float
    region: str
    date: str
    source: str


def price(name: str, region: str | None = None) -> Price | None:
    """The price of an instance type, with or without `ml.`; None where none is known.

    Args:
        name: The type.
        region: Where; the table's own where left out, or where nothing newer is known.
    """
    name, table = name.removeprefix("ml."), tables()
    newer = _refreshed().get(region or table["region"], {})
    low = float(table["spot_low"])
    if name in newer.get("sagemaker", {}):
        usd = float(newer["sagemaker"][name])
        return Price(usd, low * usd, newer["region"], newer["date"], "AWS price list")
    ec2, block = table["ec2"].get(name), table["block"].get(name)
    factor = _factor(name)
    if block is not None:
        usd, date = float(block), str(table["sources"]["block"]["date"])
        return Price(usd, usd, "us-east-2", date, "EC2 Capacity Block; not sold on demand")
    if ec2 is None or factor is None:
        return None
    usd, date = float(ec2) * factor, str(table["sources"]["ec2"]["date"])
    source = f"EC2 price list × {factor:g} for SageMaker"
    return Price(usd, low * usd, table["region"], date, source)


def _factor(name: str) -> float | None:
    """How much more SageMaker charges than EC2; None where no pair of prices was found."""
    family, _, size = name.partition(".")
    for rule in tables()["sagemaker_over_ec2"]:
        if family in rule["families"] and size in rule.get("sizes", (size,)):
            return float(rule["factor"])
    return None


def refreshed_path() -> Path:
    """Where `make prices` keeps what it was told."""
    home = Path(os.environ.get("TEMPER_CACHE") or Path.home() / ".cache/temper")
    return home / "prices.json"


@cache
def tables() -> Any:
    """The dated table, sources included."""
    return yaml.load(Path(__file__).with_name("prices.yaml").read_text("utf-8"), Loader=_LOADER)


@cache
def _refreshed() -> dict[str, Any]:
    try:
        found = json.loads(refreshed_path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
