"""What an environment costs a month when nobody uses it, read from its templates.

`make idle-cost ENV=dev` synthesizes and prints it. Counted is what is billed by the hour or the
month for standing there; what is stored, sent, called or logged is billed beside it, by use.
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

# By the watch over jobs each five minutes, and by the undeploy each hour; zero is a number too.
ALWAYS_WRITTEN = (*FAULTS, "bedrock-idle-throughput")
HOURS = {"month": 1.0, "hour": 730.0, "gib_month": 1.0}
ORDER = (
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
        what: The price's name in the table, or an instance type.
        number: How many: pieces, zones, metrics or GiB, as the price is meant.
        usd_month: For all of them; None where no page with a date gives the price.
    """

    stack: str
    what: str
    number: float
    usd_month: float | None


def idle_costs(templates: Templates) -> list[IdleCost]:
    """What stands in the stacks of an environment, sorted by stack and price."""
    numbers: dict[tuple[str, str], float] = {}
    for stack, template in templates.items():
        for resource in template["Resources"].values():
            count = COUNTED.get(resource["Type"], _nothing)
            for what, number in count(resource.get("Properties", {})):
                numbers[stack, what] = numbers.get((stack, what), 0) + number
    return [
        IdleCost(stack, what, number, _usd_month(what, number))
        for (stack, what), number in sorted(numbers.items())
    ]


def _usd_month(what: str, number: float) -> float | None:
    row = prices().get(what)
    if row is not None:
        return float(row["usd"]) * HOURS[row["per"]] * number
    found = instance_price(what) if what.startswith("ml.") else None
    return found.on_demand_usd * HOURS["hour"] * number if found else None


@cache
def prices() -> dict[str, dict[str, Any]]:
    """The table, by name."""
    file = Path(__file__).parent / "aws_data" / "idle_prices.yaml"
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))["prices"]
    return found


Counted = Iterable[tuple[str, float]]


def _nothing(_: Properties) -> Counted:
    return ()


def _endpoint(properties: Properties) -> Counted:
    if properties["VpcEndpointType"] == "Interface":
        yield "endpoint", len(properties["SubnetIds"])


def _alarm(properties: Properties) -> Counted:
    """One, or as many as its expression reads; and its metric, where that is always written."""
    read = [each for each in properties.get("Metrics", []) if "MetricStat" in each]
    yield "alarm", max(1, len(read))
    if properties.get("MetricName") in ALWAYS_WRITTEN:
        yield "metric", 1


def _lustre(properties: Properties) -> Counted:
    speed = properties["LustreConfiguration"]["PerUnitStorageThroughput"]
    yield f"lustre {speed}", properties["StorageCapacity"]


def _database(properties: Properties) -> Counted:
    zones = 2 if properties.get("MultiAZ") else 1
    yield properties["DBInstanceClass"], zones
    yield "database storage", zones * int(properties["AllocatedStorage"])
    yield "secret", 1  # RDS keeps the password in one


def _nodes(properties: Properties) -> Counted:
    for group in properties["InstanceGroups"]:
        yield group["InstanceType"], group["InstanceCount"]


def _one(what: str) -> Callable[[Properties], Counted]:
    return lambda _: [(what, 1)]


COUNTED: dict[str, Callable[[Properties], Counted]] = {
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


def lines(templates: Templates) -> Iterator[str]:
    """What is printed."""
    found = idle_costs(templates)
    for each in found:
        usd = "no sourced price" if each.usd_month is None else f"{each.usd_month:10,.2f} USD"
        yield f"{each.stack:12} {each.number:8,g} × {each.what:24} {usd}"
    known = sum(each.usd_month or 0 for each in found)
    yield f"A month of nobody using it: {known:,.2f} USD, and what has no sourced price."


def table(environments: Mapping[str, Templates]) -> str:
    """The table of docs/platform.md: a row per stack, a column per environment."""
    found = {name: idle_costs(templates) for name, templates in environments.items()}
    stacks = [stack for stack in ORDER if any(stack in each for each in environments.values())]
    rows = [f"| stack | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    rows += [
        f"| {stack} | " + " | ".join(_cell(found[name], stack) for name in found) + " |"
        for stack in stacks
    ]
    totals = [f"**${sum(s.usd_month or 0 for s in each):,.2f}**" for each in found.values()]
    return "\n".join([*rows, f"| together, a month | {' | '.join(totals)} |"])


def _cell(found: list[IdleCost], stack: str) -> str:
    mine = [each for each in found if each.stack == stack]
    parts = [f"{each.number:,g} × {each.what}" for each in mine if each.usd_month is not None]
    usd = sum(each.usd_month or 0 for each in mine)
    unknown = [f"{each.number:,g} × {each.what}: ?" for each in mine if each.usd_month is None]
    return "; ".join([*([f"{', '.join(parts)}: ${usd:,.2f}"] if parts else []), *unknown]) or "–"


def price_list() -> str:
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


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The templates of a folder that `make synth` wrote, by stack."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    found = {}
    for artifact in manifest["artifacts"].values():
        if artifact["type"] == "aws:cloudformation:stack":
            file = artifact["properties"]["templateFile"]
            template = json.loads((folder / file).read_text(encoding="utf-8"))
            name = artifact["properties"].get("stackName", file.partition(".")[0])
            found[name.rpartition("-")[2]] = template
    return found


def print_idle_costs(folder: Path) -> None:
    """Print the monthly baseline cost of the templates in `folder`."""
    sys.stdout.write("\n".join(lines(read(folder))) + "\n")
