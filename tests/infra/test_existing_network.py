"""Tests of an environment in a VPC that exists: what is created in it, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.errors import SettingsError
from stacks.settings import read_environment
from tests.infra.conftest import TESTS, Assembly

CONTENT: dict[str, Any] = yaml.safe_load((TESTS / "existing.yaml").read_text(encoding="utf-8"))
SUBNETS = ["subnet-0000000000000000a", "subnet-0000000000000000b"]


@pytest.fixture(scope="module")
def existing(assembly_of: Callable[[str], Assembly]) -> Assembly:
    return assembly_of("existing")


def test_no_network_is_created(existing: Assembly) -> None:
    types = {resource["Type"] for resource in existing.templates["network"]["Resources"].values()}
    assert types == {
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::EC2::VPCEndpoint",
        "AWS::SSM::Parameter",
    }


def test_everything_is_in_the_given_vpc_and_subnets(existing: Assembly) -> None:
    groups = existing.of_type("AWS::EC2::SecurityGroup")
    endpoints = existing.of_type("AWS::EC2::VPCEndpoint")
    vpcs = {resource["Properties"]["VpcId"] for resource in groups + endpoints}
    assert vpcs == {"vpc-0a1b2c3d4e5f60718"}
    text = json.dumps(existing.templates)
    assert f'"Value": "{",".join(SUBNETS)}"' in text  # in the order of network.zones
    [cluster] = existing.of_type("AWS::SageMaker::Cluster")
    assert cluster["Properties"]["VpcConfig"]["Subnets"] == SUBNETS
    [file_system] = existing.of_type("AWS::FSx::FileSystem")
    assert file_system["Properties"]["SubnetIds"] == SUBNETS[:1]


def test_only_missing_endpoints_are_created(existing: Assembly) -> None:
    endpoints = [each["Properties"] for each in existing.of_type("AWS::EC2::VPCEndpoint")]
    interface = {
        str(each["ServiceName"]).removeprefix("com.amazonaws.us-east-1.")
        for each in endpoints
        if each["VpcEndpointType"] == "Interface"
    }
    assert {"ecr.api", "ec2", "sagemaker.api", "secretsmanager"} <= interface
    assert not interface & {"logs", "sts", "ssm"}
    [gateway] = [each for each in endpoints if each["VpcEndpointType"] == "Gateway"]
    assert gateway["RouteTableIds"] == ["rtb-0000000000000000a", "rtb-0000000000000000b"]


def test_endpoints_admit_all_ranges_of_the_vpc(existing: Assembly) -> None:
    ranges = {
        rule["CidrIp"]
        for group in existing.of_type("AWS::EC2::SecurityGroup")
        for rule in group["Properties"].get("SecurityGroupIngress", [])
    }
    assert ranges == {"10.200.0.0/16", "100.64.0.0/16"}


def _message(folder: Path, network: dict[str, Any]) -> str:
    content = {**CONTENT, "network": {**CONTENT["network"], **network}}
    (folder / "existing.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_environment(folder, "existing")
    return str(caught.value)


def _with_subnet(**changes: Any) -> dict[str, Any]:
    existing = CONTENT["network"]["existing"]
    return {"existing": {**existing, "subnets": [{**existing["subnets"][0], **changes}]}}


@pytest.mark.parametrize(
    ("network", "texts"),
    [
        (
            {"cidr": "10.0.0.0/16", "private_mask": 20, "nat_gateways": 1, "flow_log_days": 9},
            [
                "network.cidr: has no effect on the VPC vpc-0a1b2c3d4e5f60718",
                "network.private_mask: has no effect",
                "network.nat_gateways: has no effect",
                "network.flow_log_days: has no effect",
            ],
        ),
        (
            _with_subnet(),
            ["exactly one subnet per zone is used, and us-east-1a has none"],
        ),
        (
            _with_subnet(zone="us-east-1c"),
            ["is in 'us-east-1c', and network.zones has us-east-1a, us-east-1b"],
        ),
        (
            _with_subnet(cidr="10.9.0.0/20"),
            ["10.9.0.0/20 of subnet-0000000000000000b is outside of the VPC's 10.200.0.0/16"],
        ),
        (_with_subnet(route_table=None), ["route_table: the S3 gateway endpoint is a route of"]),
        (_with_subnet(cidr="100.64.16.0/28"), ["network.existing: a /28 subnet has 11 usable"]),
        (
            {"existing": {**CONTENT["network"]["existing"], "endpoints": ["com.amazonaws.ssmm"]}},
            ["the platform calls no service 'com.amazonaws.ssmm'; did you mean 'ssm'?"],
        ),
        (
            {
                "existing": {
                    **CONTENT["network"]["existing"],
                    "cidrs": ["10.0.0.0/8", "100.64.0.0/16"],
                }
            },
            ["a VPC has ranges between /16 and /28, not 10.0.0.0/8"],
        ),
    ],
)
def test_contradictions_are_refused(
    tmp_path: Path, network: dict[str, Any], texts: list[str]
) -> None:
    message = _message(tmp_path, network)
    assert [text for text in texts if text not in message] == []
    assert "docs.aws.amazon.com/vpc/latest/userguide/" in message


def test_overlapping_subnets_are_refused(tmp_path: Path) -> None:
    existing = CONTENT["network"]["existing"]
    first, second = existing["subnets"]
    network = {"existing": {**existing, "subnets": [first, {**second, "cidr": first["cidr"]}]}}
    assert "overlaps 100.64.16.0/20 of subnet-0000000000000000b" in _message(tmp_path, network)


def test_a_vpc_with_all_endpoints_needs_no_route_table(tmp_path: Path) -> None:
    existing = {**CONTENT["network"]["existing"], "endpoints": "all"}
    subnets = [{k: v for k, v in s.items() if k != "route_table"} for s in existing["subnets"]]
    content = {
        **CONTENT,
        "network": {**CONTENT["network"], "existing": {**existing, "subnets": subnets}},
    }
    (tmp_path / "existing.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    environment = read_environment(tmp_path, "existing")
    assert environment.network.existing is not None
    assert environment.network.existing.has_endpoint("ecr.api")


def test_two_environments_do_not_create_one_endpoint_twice(tmp_path: Path) -> None:
    other = {**CONTENT, "name": "other", "prefix": "temper-other"}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other), encoding="utf-8")
    message = _message(tmp_path, {})
    assert "other.yaml creates endpoints of ec2, ec2messages, ecr.api" in message
    assert "ssmmessages in vpc-0a1b2c3d4e5f60718 too" in message
