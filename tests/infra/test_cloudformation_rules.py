"""Tests of the emulated CloudFormation: it refuses what CloudFormation refuses, in its words."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError

from emulator.moto_account import credentials, moto_server
from stacks.settings import Environment
from stacks.transitions import live as live_module
from stacks.transitions.live import LiveEnvironment
from tests.infra.conftest import TESTS
from tests.infra.deploy_rehearsal import SERVER

pytestmark = pytest.mark.slow  # starts a server
TAGS = {"Project": "temper", "Environment": "isolated"}
BUCKET = "temper-iso-bucket"


def _template(*, policy: str = "Delete", export: bool = True, **properties: Any) -> str:
    template: dict[str, Any] = {
        "Resources": {
            "Bucket": {
                "Type": "AWS::S3::Bucket",
                "DeletionPolicy": policy,
                "Properties": {"BucketName": BUCKET, **properties},
            },
            "Group": {
                "Type": "AWS::Logs::LogGroup",
                "DeletionPolicy": policy,
                "Properties": {"LogGroupName": "/temper/group"},
            },
        }
    }
    if export:
        value = {"Value": {"Ref": "Bucket"}, "Export": {"Name": "temper-iso-producer:bucket"}}
        template["Outputs"] = {"Bucket": value}
    return json.dumps(template)


CONSUMER = json.dumps(
    {
        "Resources": {
            "Parameter": {
                "Type": "AWS::SSM::Parameter",
                "Properties": {
                    "Name": "/temper/parameter",
                    "Type": "String",
                    "Value": {"Fn::ImportValue": "temper-iso-producer:bucket"},
                },
            }
        }
    }
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("moto")
    with moto_server(folder / "moto.log", SERVER) as number:
        yield number


@pytest.fixture
def client(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in credentials(port, "us-east-1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(live_module, "POLL_SECONDS", 0)
    client = boto3.client("cloudformation")
    yield client
    for name in ("temper-iso-consumer", "temper-iso-producer"):
        client.delete_stack(StackName=name) if _exists(client, name) else None


def _exists(client: Any, name: str) -> bool:
    return name in {stack["StackName"] for stack in client.describe_stacks()["Stacks"]}


def _create(client: Any, name: str, template: str, **options: Any) -> None:
    tags = [{"Key": key, "Value": value} for key, value in TAGS.items()]
    client.create_stack(StackName=name, TemplateBody=template, Tags=tags, **options)


def _live() -> LiveEnvironment:
    content = yaml.safe_load((TESTS / "isolated.yaml").read_text(encoding="utf-8"))
    return LiveEnvironment(Environment.model_validate(content), boto3.Session())


def test_an_export_in_use_stays(client: Any) -> None:
    _create(client, "temper-iso-producer", _template())
    _create(client, "temper-iso-consumer", CONSUMER)
    message = "temper-iso-producer:bucket cannot be deleted as it is in use by temper-iso-consumer"
    with pytest.raises(ClientError, match=message):
        client.update_stack(StackName="temper-iso-producer", TemplateBody=_template(export=False))
    client.delete_stack(StackName="temper-iso-producer")
    [stack] = client.describe_stacks(StackName="temper-iso-producer")["Stacks"]
    assert stack["StackStatus"] == "DELETE_FAILED"


def test_an_export_that_an_update_adds_can_be_imported(client: Any) -> None:
    _create(client, "temper-iso-producer", _template(export=False))
    client.update_stack(StackName="temper-iso-producer", TemplateBody=_template())
    _create(client, "temper-iso-consumer", CONSUMER)


def test_a_custom_named_resource_is_not_replaced(client: Any) -> None:
    _create(client, "temper-iso-producer", _template(ObjectLockEnabled=False))
    message = f"custom-named resource requires replacing. Rename {BUCKET} and update"
    with pytest.raises(ClientError, match=message):
        client.update_stack(
            StackName="temper-iso-producer",
            TemplateBody=_template(BucketNamePrefix="another"),
        )


def test_termination_protection_and_a_bucket_with_objects(client: Any) -> None:
    _create(client, "temper-iso-producer", _template(), EnableTerminationProtection=True)
    with pytest.raises(ClientError, match="cannot be deleted while TerminationProtection"):
        client.delete_stack(StackName="temper-iso-producer")
    boto3.client("s3").put_object(Bucket=BUCKET, Key="key", Body=b"")
    live = _live()
    assert live.stacks["temper-iso-producer"].termination_protection
    live.delete("temper-iso-producer")
    assert live.kept == [f"AWS::S3::Bucket {BUCKET}"]
    assert not _exists(client, "temper-iso-producer")
    boto3.client("s3").head_object(Bucket=BUCKET, Key="key")
    # It is adopted by the same steps as what a deletion policy retains.
    retained = _live().retained()["temper-iso-producer"]
    assert set(retained) == {"Bucket"}
    _import(retained)
    boto3.client("s3").delete_object(Bucket=BUCKET, Key="key")


def test_what_is_retained_keeps_its_name_and_is_imported(client: Any) -> None:
    template = _template(policy="RetainExceptOnCreate")
    _create(client, "temper-iso-producer", template)
    client.delete_stack(StackName="temper-iso-producer")
    with pytest.raises(ClientError, match=f"{BUCKET} already exists"):
        _create(client, "temper-iso-producer", template)
    retained = _live().retained()["temper-iso-producer"]
    assert retained["Group"].physical_id == "/temper/group"
    _import(retained)
    assert _live().physical_ids("temper-iso-producer") == {
        "Bucket": BUCKET,
        "Group": "/temper/group",
    }


def _import(retained: Any) -> None:
    content = json.loads(_template(export=False))
    content["Resources"] = {key: content["Resources"][key] for key in retained}
    _live().import_resources("temper-iso-producer", content, retained, TAGS)
    assert _live().stacks["temper-iso-producer"].status == "IMPORT_COMPLETE"


def test_a_resource_that_comes_back_is_created_again(client: Any) -> None:
    _create(client, "temper-iso-producer", _template(export=False))
    without = json.loads(_template(export=False))
    del without["Resources"]["Group"]
    groups = boto3.client("logs")
    for template, number in ((json.dumps(without), 0), (_template(export=False), 1)):
        client.update_stack(StackName="temper-iso-producer", TemplateBody=template)
        found = groups.describe_log_groups(logGroupNamePrefix="/temper/group")["logGroups"]
        assert len(found) == number


def test_a_network_is_deleted_with_its_route_tables(client: Any) -> None:
    vpc, subnet, table = ({"Ref": each} for each in ("Vpc", "Subnet", "Table"))
    resources = {
        "Vpc": ("VPC", {"CidrBlock": "10.0.0.0/16"}),
        "Subnet": ("Subnet", {"VpcId": vpc, "CidrBlock": "10.0.0.0/20"}),
        "Table": ("RouteTable", {"VpcId": vpc}),
        "Link": ("SubnetRouteTableAssociation", {"SubnetId": subnet, "RouteTableId": table}),
    }
    template = {
        "Resources": {
            logical_id: {"Type": f"AWS::EC2::{kind}", "Properties": properties}
            for logical_id, (kind, properties) in resources.items()
        }
    }
    _create(client, "temper-iso-producer", json.dumps(template))
    client.delete_stack(StackName="temper-iso-producer")
    assert not _exists(client, "temper-iso-producer")
    assert not boto3.client("ec2").describe_subnets(
        Filters=[{"Name": "cidr-block", "Values": ["10.0.0.0/20"]}]
    )["Subnets"]
