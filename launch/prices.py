"""The work of `temper prices`: read current instance prices from the AWS price list.

Needs credentials that may call `pricing:GetProducts`. Without them, plans keep using the dated
table of `catalog/prices.yaml`; the command says so and succeeds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from catalog.instances import instances
from catalog.managed_training import providers
from catalog.prices import CUSTOMIZATION, refreshed_path, reload_downloaded, tables

_PRICE_LIST_REGION = "us-east-1"
"""Region of the price list's endpoint, which has the prices of all Regions."""
_TOKEN_UNITS = {"1k tokens": 1.0, "1000 tokens": 1.0, "1m tokens": 1000.0, "1000000 tokens": 1000.0}
"""Thousands of tokens in the units of the price list; a price in another unit is not used."""


def refresh_prices(region: str = "") -> int:
    """Download the training prices of a region and return the exit code: 2 if it has none.

    Args:
        region: Region in which jobs would run; empty for that of the dated table.
    """
    table = tables()
    region = region or str(table["region"])
    try:
        client = _client()
        prices, customization = training_prices(client, region), customization_prices(client)
    except Exception as error:
        sys.stdout.write(
            f"no newer prices ({_explain(error)}); plans keep using those of "
            f"{table['sources']['ec2']['date']}, {table['region']}\n"
        )
        return 0
    if not prices:
        sys.stdout.write(f"the price list has no training prices for {region}\n")
        return 2
    _save(region, prices, customization)
    sys.stdout.write(
        f"{len(prices)} prices of instances in {region}, and {len(customization)} of managed "
        f"customization, in {refreshed_path()}\n"
    )
    return 0


def training_prices(client: Any, region: str) -> dict[str, float]:
    """Return the hourly price in US dollars of every instance type of the catalog.

    Args:
        client: boto3 client of `pricing`.
        region: Region in which jobs would run.
    """
    prices: dict[str, float] = {}
    for product in _products(client, region):
        name = str(product["product"]["attributes"].get("instanceName", ""))
        name = name.removeprefix("ml.").split("-Training")[0]
        usd = _on_demand(product)
        if name in instances() and usd:
            prices[name] = usd
    return prices


def customization_prices(client: Any) -> dict[str, float]:
    """Return the price in US dollars of 1,000 tokens of training, by the model at Bedrock.

    Args:
        client: boto3 client of `pricing`.
    """
    prices = {}
    for model in providers()["bedrock-customization"].models.values():
        if not model.price_list:
            continue
        usage_type = f"{model.price_list}-Customization-Training"
        pages = client.get_paginator("get_products").paginate(
            ServiceCode="AmazonBedrock",
            Filters=[{"Type": "TERM_MATCH", "Field": "usagetype", "Value": usage_type}],
        )
        for page in pages:
            for text in page["PriceList"]:
                for unit, usd in _on_demand_prices(json.loads(text)):
                    if unit.lower() in _TOKEN_UNITS and usd:
                        prices[model.name] = usd / _TOKEN_UNITS[unit.lower()]
    return prices


def _products(client: Any, region: str) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("get_products").paginate(
        ServiceCode="AmazonSageMaker",
        Filters=[
            {"Type": "TERM_MATCH", "Field": "regionCode", "Value": region},
            {"Type": "TERM_MATCH", "Field": "component", "Value": "Training"},
        ],
    )
    for page in pages:
        for text in page["PriceList"]:
            yield json.loads(text)


def _on_demand(product: dict[str, Any]) -> float:
    hourly = (usd for unit, usd in _on_demand_prices(product) if unit in ("Hrs", "Hours", "Hour"))
    return next(hourly, 0.0)


def _on_demand_prices(product: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the unit and the price in US dollars of each dimension of a product."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            yield str(dimension.get("unit", "")), float(dimension["pricePerUnit"].get("USD", 0))


def _save(region: str, prices: dict[str, float], customization: dict[str, float]) -> None:
    path = refreshed_path()
    try:
        saved = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        saved = {}
    date = time.strftime("%Y-%m-%d")
    saved[region] = {"region": region, "date": date, "sagemaker": dict(sorted(prices.items()))}
    if customization:
        saved[CUSTOMIZATION] = {"date": date, "usd_per_1k_tokens": customization}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".writing")
    partial.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    reload_downloaded()
    providers.cache_clear()


def _client() -> Any:
    import boto3

    return boto3.Session().client("pricing", region_name=_PRICE_LIST_REGION)


def _explain(error: Exception) -> str:
    kind = type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return "no AWS credentials are configured"
    if kind in ("EndpointConnectionError", "ConnectTimeoutError"):
        return "AWS cannot be reached from here"
    if kind == "ModuleNotFoundError":
        return "boto3 is not installed"
    return str(error).splitlines()[0] if str(error) else kind
