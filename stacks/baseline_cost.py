"""Monthly cost of an idle environment, computed from its templates.

`make idle-cost ENV=dev` synthesizes the environment and prints the cost. It includes what is billed
by the hour or month while it exists, and excludes what is billed by use: storage, traffic, requests
and log ingestion. Prices are those of us-east-1 in `stacks/aws_data/idle_prices.yaml`, each with
its
source and date.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from catalog.prices import price as instance_price
from stacks.aws_data.tables import eks_versions
from stacks.handlers.monitor.faults import HEARTBEAT

# Published by the job monitor every five minutes and by the undeploy schedules; a metric that is
# published only on a fault costs nothing while idle.
ALWAYS_PUBLISHED = (
    HEARTBEAT,
    "bedrock-idle-throughput",
    "deployment-overdue",
    "deployment-without-end",
)
HOURS = {"month": 1.0, "hour": 730.0, "gib_month": 1.0}
STACK_ORDER = (
    "security",
    "network",
    "storage",
    "images",
    "training",
    "hyperpod",
    "bedrock",
    "serving",
    "pipelines",
    "monitoring",
)
# The name of a deployment may end like that of a stack.
PART = re.compile(rf"-(serving-.+|{'|'.join(STACK_ORDER)})$")
Properties = Mapping[str, Any]
Templates = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class IdleCost:
    """Cost of one kind of billed item in one stack.

    Attributes:
        stack: Name of the stack without the prefix.
        item: Name of the price in the table, or an instance type.
        quantity: Number of units as the price is defined: pieces, zones, metrics or GiB.
        usd_month: Cost of all units; None if no dated source states the price.
    """

    stack: str
    item: str
    quantity: float
    usd_month: float | None


def idle_costs(templates: Templates) -> list[IdleCost]:
    """Return the idle cost of an environment, sorted by stack and item."""
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
    instance = instance_price(item) if item.startswith("ml.") else None
    return instance.on_demand_usd * HOURS["hour"] * quantity if instance else None


@cache
def prices() -> dict[str, dict[str, Any]]:
    """Return the table of prices, by name."""
    file = Path(__file__).parent / "aws_data" / "idle_prices.yaml"
    table: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))["prices"]
    return table


BilledItems = Iterable[tuple[str, float]]


def _no_cost(_: Properties) -> BilledItems:
    return ()


def _endpoint(properties: Properties) -> BilledItems:
    if properties["VpcEndpointType"] == "Interface":
        yield "endpoint", len(properties["SubnetIds"])


def _alarm(properties: Properties) -> BilledItems:
    """Yield an alarm, or as many as its expression reads metrics, which is how they are billed.

    A platform metric is billed as well if it is published continuously.
    """
    read = [each for each in properties.get("Metrics", []) if "MetricStat" in each]
    yield "alarm", max(1, len(read))
    if properties.get("MetricName") in ALWAYS_PUBLISHED:
        yield "metric", 1
    if properties.get("MetricName") == "GoldenAlarm":
        yield "metric", 2  # and GoldenAgreement


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


def _endpoint_instances(properties: Properties) -> BilledItems:
    """Yield the instances that always run: those of components may scale to zero."""
    shadows = properties.get("ShadowProductionVariants", [])
    for variant in [*properties["ProductionVariants"], *shadows]:
        managed = variant.get("ManagedInstanceScaling", {})
        count = managed.get("MinInstanceCount", variant["InitialInstanceCount"])
        yield variant["InstanceType"], count


def _eks(properties: Properties) -> BilledItems:
    yield eks_price(properties["Version"], date.today()), 1


def eks_price(version: str, today: date) -> str:
    """Return the name of an EKS cluster's price: it rises when standard support has ended."""
    ends = eks_versions().get(version)
    return "eks extended" if ends and today > ends else "eks"


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
    "AWS::EKS::Cluster": _eks,
    "AWS::SageMaker::Cluster": _nodes,
    "AWS::SageMaker::EndpointConfig": _endpoint_instances,
    "AWS::SageMaker::MlflowApp": _one("MLflow app"),
    "Custom::ProvisionedThroughput": _one("provisioned throughput"),
}


def format_lines(templates: Templates) -> Iterator[str]:
    """Yield the lines that `make idle-cost` prints."""
    costs = idle_costs(templates)
    for each in costs:
        usd = "no sourced price" if each.usd_month is None else f"{each.usd_month:10,.2f} USD"
        yield f"{each.stack:12} {each.quantity:8,g} × {each.item:24} {usd}"
    total = sum(each.usd_month or 0 for each in costs)
    yield f"Idle cost per month: {total:,.2f} USD, plus the items without a sourced price."


def markdown_table(environments: Mapping[str, Templates]) -> str:
    """Return the table of docs/platform/costs.md: a row per stack, a column per environment."""
    costs = {name: idle_costs(templates) for name, templates in environments.items()}
    present = {stack for each in environments.values() for stack in each}
    stacks = [stack for stack in STACK_ORDER if stack in present]
    stacks += sorted(present - set(stacks))  # one per deployment of a model
    rows = [f"| stack | {' | '.join(costs)} |", f"|---|{'---|' * len(costs)}"]
    rows += [
        f"| {stack} | " + " | ".join(_cell(costs[name], stack) for name in costs) + " |"
        for stack in stacks
    ]
    totals = [f"**${sum(s.usd_month or 0 for s in each):,.2f}**" for each in costs.values()]
    return "\n".join([*rows, f"| total per month | {' | '.join(totals)} |"])


def _cell(costs: list[IdleCost], stack: str) -> str:
    of_stack = [each for each in costs if each.stack == stack]
    priced = [
        f"{each.quantity:,g} × {each.item}" for each in of_stack if each.usd_month is not None
    ]
    usd = sum(each.usd_month or 0 for each in of_stack)
    unpriced = [
        f"{each.quantity:,g} × {each.item}: ?" for each in of_stack if each.usd_month is None
    ]
    total = [f"{', '.join(priced)}: ${usd:,.2f}"] if priced else []
    return "; ".join([*total, *unpriced]) or "–"


def price_table() -> str:
    """Return the price list of docs/platform/costs.md as a Markdown table."""
    rows = ["| price | USD | item | as of |", "|---|---|---|---|"]
    units = {"month": "per month", "hour": "per hour", "gib_month": "per GiB-month"}
    for name, row in prices().items():
        usd = f"{row['usd']:.3f}".rstrip("0")
        usd = usd + "0" * max(0, 2 - len(usd.partition(".")[2]))
        rows.append(
            f"| {name} | {usd} {units[row['per']]} | {row['what']} "
            f"| [{row['date']}]({row['source']}) |"
        )
    return "\n".join(rows)


def read_templates(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the templates that `make synth` wrote to `folder`, by stack."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    templates = {}
    for artifact in manifest["artifacts"].values():
        if artifact["type"] == "aws:cloudformation:stack":
            file = artifact["properties"]["templateFile"]
            template = json.loads((folder / file).read_text(encoding="utf-8"))
            name = artifact["properties"].get("stackName", file.partition(".")[0])
            templates[_part(name)] = template
    return templates


def _part(stack: str) -> str:
    """Return the name of a stack without the prefix of its environment."""
    found = PART.search(stack)
    return found[1] if found else stack


def print_idle_costs(folder: Path) -> None:
    """Print the monthly baseline cost of the templates in `folder`."""
    sys.stdout.write("\n".join(format_lines(read_templates(folder))) + "\n")
