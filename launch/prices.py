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
from catalog.prices import refreshed_path, tables

_PRICE_LIST_REGION = "us-east-1"
"""The price list is served from few Regions, for all of them."""


def refresh_prices(region: str = "") -> int:
    """Download the training prices of a region and return the exit code: 2 if it has none.

    Args:
        region: Where jobs would run; the region of the dated table when empty.
    """
    table = tables()
    region = region or str(table["region"])
    try:
        found = training_prices(_client(), region)
    except Exception as error:
        sys.stdout.write(
            f"no newer prices ({_explain(error)}); plans go on with those of "
            f"{table['sources']['ec2']['date']}, {table['region']}\n"
        )
        return 0
    if not found:
        sys.stdout.write(f"the price list has no training prices for {region}\n")
        return 2
    _keep(region, found)
    sys.stdout.write(f"{len(found)} prices of {region} in {refreshed_path()}\n")
    return 0


def training_prices(client: Any, region: str) -> dict[str, float]:
    """Dollars an hour of every instance type of the catalogue in a training job.

    Args:
        client: boto3's client for `pricing`.
        region: Where the job would run.
    """
    found: dict[str, float] = {}
    for product in _products(client, region):
        name = str(product["product"]["attributes"].get("instanceName", ""))
        name = name.removeprefix("ml.").split("-Training")[0]
        usd = _on_demand(product)
        if name in instances() and usd:
            found[name] = usd
    return found


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
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            if dimension.get("unit") in ("Hrs", "Hours", "Hour"):
                return float(dimension["pricePerUnit"].get("USD", 0))
    return 0.0


def _keep(region: str, found: dict[str, float]) -> None:
    path = refreshed_path()
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    date = time.strftime("%Y-%m-%d")
    known[region] = {"region": region, "date": date, "sagemaker": dict(sorted(found.items()))}
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_suffix(".writing")
    building.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    building.replace(path)


def _client() -> Any:
    import boto3

    return boto3.Session().client("pricing", region_name=_PRICE_LIST_REGION)


def _explain(error: Exception) -> str:
    kind = type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return "there are no AWS credentials here"
    if kind in ("EndpointConnectionError", "ConnectTimeoutError"):
        return "AWS cannot be reached from here"
    if kind == "ModuleNotFoundError":
        return "boto3 is not installed"
    return str(error).splitlines()[0] if str(error) else kind
