"""Tests of the address plan and of the zones of nodes, Lustre and endpoints."""

import json
from collections.abc import Callable
from ipaddress import IPv4Network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.errors import SettingsError
from stacks.settings import Environment, read_environment
from stacks.settings.address_plan import addresses_needed, nat_subnet, private_subnet
from stacks.settings.network import NetworkSettings
from stacks.settings.placement import endpoint_zones, lustre_zone, node_zones, placement_warnings
from tests.infra.baselines import committed
from tests.infra.conftest import TESTS, Assembly, synthesize

ZONES = [
    {"name": f"us-east-1{letter}", "id": f"use1-az{number}"}
    for letter, number in zip("abcdef", (4, 6, 1, 2, 3, 5), strict=True)
]


def _network(zones: int, **settings: Any) -> NetworkSettings:
    return NetworkSettings.model_validate({"zones": ZONES[:zones], **settings})


def _subnets(network: NetworkSettings) -> list[IPv4Network]:
    numbers = range(len(network.zones))
    nat = [nat_subnet(network, n) for n in numbers] if network.mode == "private" else []
    return [private_subnet(network, n) for n in numbers] + nat


@pytest.mark.parametrize("mode", ["isolated", "private"])
@pytest.mark.parametrize("mask", [18, 20, 24, 27, 28])
@pytest.mark.parametrize("reserved", [None, 1, 2, 3])
def test_a_zone_is_added_without_moving_a_subnet(
    mode: str, mask: int, reserved: int | None
) -> None:
    settings = {"mode": mode, "private_mask": mask, "reserved_zones": reserved}
    before: list[IPv4Network] = []
    for zones in range(1, 7):
        network = _network(zones, **settings)
        if addresses_needed(network) > network.cidr.num_addresses:
            break
        after = _subnets(network)
        assert set(before) <= set(after)
        assert all(each.subnet_of(network.cidr) for each in after)
        ordered = sorted(after)
        assert not any(a.overlaps(b) for a, b in pairwise(ordered))
        before = after
    assert len(before) >= 2


def _environment(**changes: Any) -> Environment:
    content = yaml.safe_load((TESTS / "everything.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        section, _, last = key.rpartition("__")
        target = content
        for part in section.split("__"):
            target = target[part]
        target[last] = value
    return Environment.model_validate(content)


def _addresses(templates: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        logical_id: (each["Properties"]["CidrBlock"], each["Properties"]["AvailabilityZone"])
        for logical_id, each in templates["network"]["Resources"].items()
        if each["Type"] == "AWS::EC2::Subnet"
    }


def _write(folder: Path, environment: str, change: Callable[[dict[str, Any]], None]) -> None:
    content = yaml.safe_load((TESTS / f"{environment}.yaml").read_text(encoding="utf-8"))
    change(content)
    (folder / f"{environment}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def test_templates_with_a_third_zone_keep_the_subnets_of_two(
    everything: Assembly, tmp_path: Path
) -> None:
    def add_zone(content: dict[str, Any]) -> None:
        content["hyperpod"]["zones"] = [zone["name"] for zone in ZONES[:2]]
        content["network"]["zones"] = ZONES[:3]

    _write(tmp_path, "everything", add_zone)
    bigger = synthesize(tmp_path, "everything", tmp_path / "out")
    before, after = _addresses(everything.templates), _addresses(bigger.templates)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2
    [old] = everything.of_type("AWS::SageMaker::Cluster")
    [new] = bigger.of_type("AWS::SageMaker::Cluster")
    assert old["Properties"]["VpcConfig"] == new["Properties"]["VpcConfig"]


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_subnets_of_the_committed_environments_stay(
    assembly_of: Callable[[str], Assembly], name: str
) -> None:
    blocks = [each[0] for each in _addresses(assembly_of(name).templates).values()]
    second = "40" if name == "dev" else "60"
    assert blocks == [f"10.{second}.{16 * number}.0/20" for number in range(len(blocks))]
    assert _addresses(committed(name)) == _addresses(assembly_of(name).templates)


def test_lustre_and_endpoints_follow_the_accelerators() -> None:
    environment = _environment()
    assert lustre_zone(environment) == "us-east-1b", "the zone of the training plan"
    assert node_zones(environment) == ("us-east-1a", "us-east-1b")
    network = _environment(network__endpoint_zones="nodes", hyperpod__zones=["us-east-1a"])
    assert endpoint_zones(network, "ssm") == ("us-east-1a", "us-east-1b")


def test_the_file_system_is_in_the_subnet_of_the_training_plan(everything: Assembly) -> None:
    [lustre] = everything.of_type("AWS::FSx::FileSystem")
    [cluster] = everything.of_type("AWS::SageMaker::Cluster")
    [plan] = [g for g in cluster["Properties"]["InstanceGroups"] if "TrainingPlanArn" in g]
    subnets = plan["OverrideVpcConfig"]["Subnets"]
    assert json.dumps(lustre["Properties"]["SubnetIds"]) == json.dumps(subnets)


def test_without_a_plan_the_largest_group_of_accelerators_decides() -> None:
    group = {"instance": "ml.g5.12xlarge", "count": 1}
    controller = {"name": "c", "instance": "ml.c5.2xlarge", "count": 1, "role": "controller"}
    groups = [
        {**controller, "zone": "us-east-1a"},
        {**group, "name": "small", "zone": "us-east-1a"},
        {**group, "name": "large", "count": 2, "zone": "us-east-1b"},
    ]
    environment = _environment(hyperpod__groups=groups)
    assert lustre_zone(environment) == "us-east-1b"
    [warning] = placement_warnings(environment)
    assert "'small' may run in us-east-1a and Lustre is in us-east-1b" in warning
    named = _environment(hyperpod__groups=groups, storage__lustre__zone="us-east-1a")
    assert lustre_zone(named) == "us-east-1a"


def test_an_endpoint_avoids_the_zones_that_do_not_offer_it() -> None:
    environment = _environment(
        network__endpoint_zones_lacking={"ssm": ["us-east-1b"]}, network__zones=ZONES[:3]
    )
    assert endpoint_zones(environment, "ssm") == ("us-east-1a", "us-east-1c")
    assert endpoint_zones(environment, "logs") == ("us-east-1a", "us-east-1b", "us-east-1c")
    alone = _environment(
        network__endpoint_zones=["us-east-1b"],
        network__endpoint_zones_lacking={"ssm": ["us-east-1b"]},
    )
    assert endpoint_zones(alone, "ssm") == ("us-east-1a",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hyperpod": {"zones": ["us-east-1d"]}}, "hyperpod.zones: 'us-east-1d' is not among"),
        ({"network": {"endpoint_zones": ["us-east-1d"]}}, "network.endpoint_zones: 'us-east-1d'"),
        ({"network": {"endpoint_zones": []}}, "network.endpoint_zones: the list is empty"),
        ({"network": {"endpoints_in_one_zone": True}}, "It is now called endpoint_zones"),
        (
            {"network": {"endpoint_zones_lacking": {"ssm": ["us-east-1a", "us-east-1b"]}}},
            "network.endpoint_zones_lacking.ssm: no zone",
        ),
    ],
)
def test_a_wrong_zone_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    def edit(content: dict[str, Any]) -> None:
        for section, values in change.items():
            content[section].update(values)

    _write(tmp_path, "everything", edit)
    with pytest.raises(SettingsError) as caught:
        read_environment(tmp_path, "everything")
    assert says in str(caught.value)


def test_lustre_with_efa_must_be_in_the_zone_of_the_nodes(tmp_path: Path) -> None:
    _write(
        tmp_path,
        "everything",
        lambda content: content["storage"]["lustre"].update(zone="us-east-1a"),
    )
    with pytest.raises(
        SettingsError, match="EFA traffic does not leave a zone, and nodes of 'plan'"
    ):
        read_environment(tmp_path, "everything")


def test_a_plan_decides_over_a_zone(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["hyperpod"]["groups"][1]["zone"] = "us-east-1a"

    _write(tmp_path, "everything", edit)
    with pytest.raises(SettingsError, match="the plan's zone applies"):
        read_environment(tmp_path, "everything")
