"""What an environment costs a month when nobody uses it, read from its templates.

`make idle-cost ENV=dev` synthesizes and prints it. BilledItems is item is billed by the hour or the
month for standing there; item is stored, sent, called or logged is billed beside it, by use.
Prices are those of us-east-1 in `stacks/aws_data/idle_prices.yaml`, each with its page and date.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from catalog.prices import price as instance_price
from stacks.handlers.monitor_jobs import FAULTS

# Published by the job monitor every five minutes and by the undeploy schedule every hour, even when
# the value is zero; a metric that is published only on a fault costs nothing while idle.
ALWAYS_PUBLISHED = (*FAULTS, "bedrock-idle-throughput")
HOURS = {"month": 1.0, "hour": 730.0, "gib_month": 1.0}
STACK_ORDER = (
    "security",
    "network",
    "storage",
    "images",
    "training",
    "hyperpod",
    "bedrock",
    "monitoring",
)
Properties = Mapping[str, Any]
Templates = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class IdleCost:
    """One kind of thing in one stack.

    Attributes:
        stack: Its name without the prefix.
        item: The price's name in the table, or an instance type.
        quantity: How many: pieces, zones, metrics or GiB, as the price is meant.
        usd_month: For all of them; None where no page with a date gives the price.
    """

    stack: str
    item: str
    quantity: float
    usd_month: float | None


def idle_costs(templates: Templates) -> list[IdleCost]:
    """What stands in the stacks of an environment, sorted by stack and price."""
    quantities: dict[tuple[str, str], float] = {}
    for stack, template in templates.items():
        for resource in template["Resources"].values():
            count = COUNTERS.get(resource["Type"], _no_cost)
            for item, quantity in count(resource.get("Properties", {})):
                quantities[stack, item] = quantities.get((stack, item), 0) + quantity
    return [
        IdleCost(stack, item, quantity, _usd_month(item, quantity))
        for (stack, item), quantity in sorted(quantities.items())
    ]


def _usd_month(item: str, quantity: float) -> float | None:
    row = prices().get(item)
    if row is not None:
        return float(row["usd"]) * HOURS[row["per"]] * quantity
    costs = instance_price(item) if item.startswith("ml.") else None
    return costs.on_demand_usd * HOURS["hour"] * quantity if costs else None


@cache
def prices() -> dict[str, dict[str, Any]]:
    """The table, by name."""
    file = Path(__file__).parent / "aws_data" / "idle_prices.yaml"
    costs: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))["prices"]
    return costs


BilledItems = Iterable[tuple[str, float]]


def _no_cost(_: Properties) -> BilledItems:
    return ()


def _endpoint(properties: Properties) -> BilledItems:
    if properties["VpcEndpointType"] == "Interface":
        yield "endpoint", len(properties["SubnetIds"])


def _alarm(properties: Properties) -> BilledItems:
    """One, or as many as its expression reads; and its metric, where that is always written."""
    read = [each for each in properties.get("Metrics", []) if "MetricStat" in each]
    yield "alarm", max(1, len(read))
    if properties.get("MetricName") in ALWAYS_PUBLISHED:
        yield "metric", 1


def _lustre(properties: Properties) -> BilledItems:
    speed = properties["LustreConfiguration"]["PerUnitStorageThroughput"]
    yield f"lustre {speed}", properties["StorageCapacity"]


def _database(properties: Properties) -> BilledItems:
    zones = 2 if properties.get("MultiAZ") else 1
    yield properties["DBInstanceClass"], zones
    yield "database storage", zones * int(properties["AllocatedStorage"])
    yield "secret", 1  # RDS keeps the password in one


def _nodes(properties: Properties) -> BilledItems:
    for group in properties["InstanceGroups"]:
        yield group["InstanceType"], group["InstanceCount"]


def _one(item: str) -> Callable[[Properties], BilledItems]:
    return lambda _: [(item, 1)]


COUNTERS: dict[str, Callable[[Properties], BilledItems]] = {
    "AWS::KMS::Key": _one("key"),
    "AWS::SecretsManager::Secret": _one("secret"),
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::EC2::NatGateway": _one("nat"),
    "AWS::EC2::EIP": _one("address"),
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::CloudWatch::CompositeAlarm": _one("composite"),
    "AWS::CloudWatch::Dashboard": _one("dashboard"),
    "AWS::FSx::FileSystem": _lustre,
    "AWS::RDS::DBInstance": _database,
    "AWS::EKS::Cluster": _one("eks"),
    "AWS::SageMaker::Cluster": _nodes,
    "AWS::SageMaker::MlflowApp": _one("MLflow app"),
    "Custom::ProvisionedThroughput": _one("provisioned throughput"),
}


def format_lines(templates: Templates) -> Iterator[str]:
    """What is printed."""
    costs = idle_costs(templates)
    for each in costs:
        usd = "no sourced price" if each.usd_month is None else f"{each.usd_month:10,.2f} USD"
        yield f"{each.stack:12} {each.quantity:8,g} × {each.item:24} {usd}"
    known = sum(each.usd_month or 0 for each in costs)
    yield f"A month of nobody using it: {known:,.2f} USD, and what has no sourced price."


def markdown_table(environments: Mapping[str, Templates]) -> str:
    """The table of docs/platform.md: a row per stack, a column per environment."""
    costs = {name: idle_costs(templates) for name, templates in environments.items()}
    stacks = [
        stack for stack in STACK_ORDER if any(stack in each for each in environments.values())
    ]
    rows = [f"| stack | {' | '.join(costs)} |", f"|---|{'---|' * len(costs)}"]
    rows += [
        f"| {stack} | " + " | ".join(_cell(costs[name], stack) for name in costs) + " |"
        for stack in stacks
    ]
    totals = [f"**${sum(s.usd_month or 0 for s in each):,.2f}**" for each in costs.values()]
    return "\n".join([*rows, f"| together, a month | {' | '.join(totals)} |"])


def _cell(costs: list[IdleCost], stack: str) -> str:
    mine = [each for each in costs if each.stack == stack]
    parts = [f"{each.quantity:,g} × {each.item}" for each in mine if each.usd_month is not None]
    usd = sum(each.usd_month or 0 for each in mine)
    unknown = [f"{each.quantity:,g} × {each.item}: ?" for each in mine if each.usd_month is None]
    return "; ".join([*([f"{', '.join(parts)}: ${usd:,.2f}"] if parts else []), *unknown]) or "–"


def price_table() -> str:
    """The list of prices of docs/platform.md."""
    rows = ["| price | USD | of | as of |", "|---|---|---|---|"]
    units = {"month": "a month", "hour": "an hour", "gib_month": "a GiB and month"}
    for name, row in prices().items():
        usd = f"{row['usd']:.3f}".rstrip("0")
        usd = usd + "0" * max(0, 2 - len(usd.partition(".")[2]))
        rows.append(
            f"| {name} | {usd} {units[row['per']]} | {row['what']} "
            f"| [{row['date']}]({row['source']}) |"
        )
    return "\n".join(rows)


def read_templates(folder: Path) -> dict[str, dict[str, Any]]:
    """The templates of a folder that `make synth` wrote, by stack."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    costs = {}
    for artifact in manifest["artifacts"].values():
        if artifact["type"] == "aws:cloudformation:stack":
            file = artifact["properties"]["templateFile"]
            template = json.loads((folder / file).read_text(encoding="utf-8"))
            name = artifact["properties"].get("stackName", file.partition(".")[0])
            costs[name.rpartition("-")[2]] = template
    return costs


def print_idle_costs(folder: Path) -> None:
    """Print the monthly baseline cost of the templates in `folder`."""
    sys.stdout.write("\n".join(format_lines(read_templates(folder))) + "\n")
