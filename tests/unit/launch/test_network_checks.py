"""Check of a VPC that exists, against an emulated account in which it was created."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from emulator.environment import EmulatedEnvironment
from launch.aws.session import AwsSession
from launch.doctor.checks import CheckFailed, Skipped
from launch.doctor.network_checks import ExistingNetworkCheck
from tests.unit.launch.fake_accounts import DEV


@pytest.fixture
def ec2(emulated: EmulatedEnvironment) -> Any:
    return AwsSession(DEV).client("ec2")


@pytest.fixture
def vpc(ec2: Any) -> dict[str, Any]:
    """Create a VPC with one private subnet, and return what the file should say of it."""
    vpc_id = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(
        VpcId=vpc_id, CidrBlock="10.7.0.0/20", AvailabilityZone="us-east-1a"
    )["Subnet"]["SubnetId"]
    table = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
    return {
        "vpc_id": vpc_id,
        "cidrs": ["10.7.0.0/16"],
        "subnets": [
            {"id": subnet, "zone": "us-east-1a", "cidr": "10.7.0.0/20", "route_table": table}
        ],
    }


def _check(existing: dict[str, Any], mode: str = "isolated") -> str:
    environment = dataclasses.replace(DEV, network={"mode": mode, "existing": existing})
    return ExistingNetworkCheck(AwsSession(environment)).run()


def test_the_vpc_is_as_the_file_says(vpc: dict[str, Any]) -> None:
    assert _check(vpc) == f"{vpc['vpc_id']} with {vpc['subnets'][0]['id']}, as the file says"


def test_a_vpc_of_the_platform_needs_no_check(emulated: EmulatedEnvironment) -> None:
    with pytest.raises(Skipped, match="creates its own VPC"):
        ExistingNetworkCheck(AwsSession(DEV)).run()


def _other_zone(ec2: Any, vpc: dict[str, Any]) -> None:
    vpc["subnets"][0] |= {"zone": "us-east-1b", "cidr": "10.7.16.0/20"}


def _other_range(ec2: Any, vpc: dict[str, Any]) -> None:
    vpc["cidrs"] = ["10.8.0.0/16"]


def _other_table(ec2: Any, vpc: dict[str, Any]) -> None:
    vpc["subnets"][0]["route_table"] = "rtb-0000000000000000f"


def _public(ec2: Any, vpc: dict[str, Any]) -> None:
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc["vpc_id"])
    table = vpc["subnets"][0]["route_table"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)


def _no_host_names(ec2: Any, vpc: dict[str, Any]) -> None:
    ec2.modify_vpc_attribute(VpcId=vpc["vpc_id"], EnableDnsHostnames={"Value": False})


def _endpoint(ec2: Any, vpc: dict[str, Any]) -> None:
    ec2.create_vpc_endpoint(
        VpcId=vpc["vpc_id"],
        VpcEndpointType="Interface",
        ServiceName="com.amazonaws.us-east-1.ssm",
        SubnetIds=[vpc["subnets"][0]["id"]],
        PrivateDnsEnabled=True,
    )


def _no_subnet(ec2: Any, vpc: dict[str, Any]) -> None:
    vpc["subnets"][0]["id"] = "subnet-0000000000000000f"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_other_zone, "has zone us-east-1a, not us-east-1b; .* has cidr 10.7.0.0/20, not"),
        (_other_range, r"has 10\.7\.0\.0/16, not 10\.8\.0\.0/16"),
        (_other_table, "has route table rtb-[0-9a-f]+, not rtb-0000000000000000f"),
        (_public, "is public: rtb-.* routes 0.0.0.0/0 to an internet gateway"),
        (_no_host_names, "enableDnsHostnames of vpc-.* is false, and private DNS needs it"),
        (_endpoint, "has an endpoint of ssm already, and ours would collide with it"),
        (_no_subnet, "subnet-0000000000000000f"),
    ],
)
def test_differences_are_named(
    ec2: Any, vpc: dict[str, Any], change: Callable[[Any, dict[str, Any]], None], text: str
) -> None:
    change(ec2, vpc)
    with pytest.raises(CheckFailed, match=text) as caught:
        _check(vpc)
    assert caught.value.fix == "correct network.existing in environments/dev.yaml"


def test_an_endpoint_that_the_file_lists_is_not_a_collision(ec2: Any, vpc: dict[str, Any]) -> None:
    _endpoint(ec2, vpc)
    assert "as the file says" in _check({**vpc, "endpoints": ["ssm"]})
    assert "as the file says" in _check({**vpc, "endpoints": "all"})


def test_mode_private_needs_a_route(vpc: dict[str, Any]) -> None:
    with pytest.raises(
        CheckFailed, match=r"mode: private, but rtb-.* has no route for 0\.0\.0\.0/0"
    ):
        _check(vpc, mode="private")
