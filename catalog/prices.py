"""Hourly prices of instances, with Region, date and source.

They come from the AWS price list if `make prices` has downloaded it on this machine, and otherwise
from the dated table `prices.yaml` in this package.
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

CUSTOMIZATION = "customization"
"""Key of prices of managed customization in the downloaded file, next to those of Regions."""


@dataclass(frozen=True)
class Price:
    """Price of one instance for an hour of a SageMaker training job, in US dollars.

    Attributes:
        on_demand_usd: On-demand price.
        spot_low_usd: Lowest price of managed spot training; the highest is the on-demand price.
        region: Region of the price.
        date: Date of the price.
        source: Source of the price.
        capacity_block: True if the type is sold in Capacity Blocks only, in advance.
    """

    on_demand_usd: float
    spot_low_usd: float
    region: str
    date: str
    source: str
    capacity_block: bool = False


def price(name: str, region: str | None = None) -> Price | None:
    """Return the price of an instance type, or None if it is unknown.

    Args:
        name: Instance type, with or without `ml.`.
        region: Region; if None, or without downloaded prices, that of the dated table.
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
        return Price(usd, usd, "us-east-2", date, "EC2 Capacity Block; not sold on demand", True)
    if ec2 is None or factor is None:
        return None
    usd, date = float(ec2) * factor, str(table["sources"]["ec2"]["date"])
    source = f"EC2 price list × {factor:g} for SageMaker"
    return Price(usd, low * usd, table["region"], date, source)


def _factor(name: str) -> float | None:
    """Return the ratio of SageMaker's price to EC2's; None if no pair of prices was found."""
    family, _, size = name.partition(".")
    for rule in tables()["sagemaker_over_ec2"]:
        if family in rule["families"] and size in rule.get("sizes", (size,)):
            return float(rule["factor"])
    return None


def refreshed_path() -> Path:
    """Return the file in which `make prices` saves the downloaded prices."""
    home = Path(os.environ.get("TEMPER_CACHE") or Path.home() / ".cache/temper")
    return home / "prices.json"


@cache
def tables() -> Any:
    """Return the content of `prices.yaml`, sources included."""
    return yaml.load(Path(__file__).with_name("prices.yaml").read_text("utf-8"), Loader=_LOADER)


def reload_downloaded() -> None:
    """Read the downloaded prices again when they are next asked for."""
    _refreshed.cache_clear()


def customization_prices() -> dict[str, Any]:
    """Return the downloaded prices of training by a provider: `date`, `usd_per_1k_tokens`."""
    return dict(_refreshed().get(CUSTOMIZATION, {}))


@cache
def _refreshed() -> dict[str, Any]:
    try:
        saved = json.loads(refreshed_path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return saved if isinstance(saved, dict) else {}
