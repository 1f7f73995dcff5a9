"""Tests of transitions of a live environment, on pairs of synthesized environments."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.errors import DeploymentError
from stacks.transitions.adoption import Retained, import_template
from stacks.transitions.assembly import read_assembly, with_templates
from stacks.transitions.deployment import deploy, destroy
from stacks.transitions.endpoint_services import unsupported_zones
from stacks.transitions.expansion import expand
from stacks.transitions.plan import make_plan, plan_lines
from tests.infra.conftest import TESTS, Assembly, remove_bedrock, synthesize
from tests.infra.template_account import RefusedError, TemplateAccount

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def without_hyperpod(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    return _variant(
        tmp_path_factory.mktemp("off"),
        lambda content: content["hyperpod"].update(enabled=False),
    )


def _variant(folder: Path, change: Change, name: str = "everything") -> Assembly:
    content = yaml.safe_load((TESTS / f"{name}.yaml").read_text(encoding="utf-8"))
    change(content)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return synthesize(folder, name, folder / "out")


def _deploy(
    account: TemplateAccount, folder: Path, confirm: Callable[[str], None] = lambda _: None
) -> list[str]:
    said: list[str] = []
    deploy(account, folder, run_cdk=account.run_cdk, confirm=confirm, say=said.append)
    return said


def _templates(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: stack.template for name, stack in read_assembly(folder).items()}


def test_cdk_alone_cannot_turn_hyperpod_off(
    everything: Assembly, without_hyperpod: Assembly
) -> None:
    account = TemplateAccount()
    account.run_cdk(["deploy", "--app", str(everything.outdir)])
    with pytest.raises(RefusedError, match="cannot be deleted as it is in use by temper-all-"):
        account.run_cdk(["deploy", "--app", str(without_hyperpod.outdir)])


def test_hyperpod_is_turned_on_off_and_on(everything: Assembly, without_hyperpod: Assembly) -> None:
    account = TemplateAccount()
    _deploy(account, everything.outdir)
    questions: list[str] = []
    said = _deploy(account, without_hyperpod.outdir, questions.append)
    assert account.templates() == _templates(without_hyperpod.outdir)
    assert questions == [
        "Really delete temper-all-hyperpod and remove or replace "
        "temper-all-storage/LustreFileSystem4AFDAE78?"
    ]
    [named] = [line for line in said if line.startswith("No longer in the environment's file")]
    assert "stack temper-all-hyperpod" in named
    assert "USD per hour" in named
    [stays] = [line for line in said if "AWS::FSx::FileSystem id-of-LustreFileSystem" in line]
    assert stays.startswith("Stays in the account, no longer managed")
    # The nodes go before the file system that they have mounted.
    assert account.log.index("-temper-all-hyperpod") < _last(account.log, "temper-all-storage")
    _deploy(account, everything.outdir)
    assert account.templates() == _templates(everything.outdir)


def test_nothing_is_asked_or_repeated_if_nothing_goes(everything: Assembly) -> None:
    account = TemplateAccount()

    def never(question: str) -> None:
        raise AssertionError(question)

    _deploy(account, everything.outdir, never)
    account.log.clear()
    _deploy(account, everything.outdir, never)
    assert account.log == []


def test_a_declined_question_changes_nothing(
    everything: Assembly, without_hyperpod: Assembly
) -> None:
    account = TemplateAccount()
    _deploy(account, everything.outdir)
    account.log.clear()

    def decline(_: str) -> None:
        raise DeploymentError("not confirmed")

    with pytest.raises(DeploymentError, match="not confirmed"):
        _deploy(account, without_hyperpod.outdir, decline)
    assert account.log == []


def test_an_environment_is_destroyed_users_first(everything: Assembly) -> None:
    account = TemplateAccount()
    _deploy(account, everything.outdir)
    said: list[str] = []
    destroy(account, confirm=lambda _: None, say=said.append)
    assert account.stacks == {}
    kept = [line for line in said if line.startswith("Stays in the account")]
    assert any("AWS::S3::Bucket" in line for line in kept)
    assert any("AWS::KMS::Key" in line for line in kept)


def test_what_was_retained_is_adopted_by_the_next_deployment(everything: Assembly) -> None:
    account = TemplateAccount()
    _deploy(account, everything.outdir)
    destroy(account, confirm=lambda _: None, say=lambda _: None)
    with pytest.raises(RefusedError, match="already exists"):
        account.run_cdk(["deploy", "--all", "--app", str(everything.outdir)])
    account.stacks.clear()
    account.log.clear()
    said = _deploy(account, everything.outdir)
    assert account.templates() == _templates(everything.outdir)
    assert any("Adopting AWS::KMS::Key" in line for line in said)
    assert account.log[:2] == ["import temper-all-security", "temper-all-security"]
    assert [line for line in said if "already exists" in line] == []


def test_a_log_group_that_bedrock_left_is_adopted(everything: Assembly, tmp_path: Path) -> None:
    without = _variant(tmp_path, remove_bedrock)
    account = TemplateAccount()
    for folder in (everything.outdir, without.outdir):
        _deploy(account, folder)
    said = _deploy(account, everything.outdir)
    assert [line for line in said if line.startswith("Adopting AWS::Logs::LogGroup")]
    assert account.templates() == _templates(everything.outdir)


def test_an_import_leaves_out_what_does_not_exist_yet() -> None:
    new = {
        "Resources": {
            "Key": {
                "Type": "AWS::KMS::Key",
                "Properties": {"KeyPolicy": {"Ref": "Role"}, "EnableKeyRotation": True},
            },
            "Images": {
                "Type": "AWS::ECR::Repository",
                "Properties": {"EncryptionConfiguration": {"Fn::ImportValue": "key"}},
            },
        }
    }
    key = {"Key": Retained("AWS::KMS::Key", "1234")}
    template = import_template({}, new, key, frozenset())
    assert template["Resources"]["Key"]["Properties"] == {"EnableKeyRotation": True}
    assert key["Key"].identifier == {"KeyId": "1234"}
    images = {"Images": Retained("AWS::ECR::Repository", "name")}
    with pytest.raises(DeploymentError, match="EncryptionConfiguration refers to"):
        import_template({}, new, images, frozenset())
    assert "Images" in import_template({}, new, images, frozenset({"key"}))["Resources"]


def test_a_cluster_with_other_zones_is_refused_with_the_way_round(everything: Assembly) -> None:
    account = TemplateAccount()
    _deploy(account, everything.outdir)
    new = copy.deepcopy(_templates(everything.outdir))
    [cluster] = [
        each
        for each in new["temper-all-hyperpod"]["Resources"].values()
        if each["Type"] == "AWS::SageMaker::Cluster"
    ]
    cluster["Properties"]["VpcConfig"]["Subnets"].pop()
    [refusal] = make_plan(account.templates(), new).refusals
    assert (
        "VpcConfig/Subnets changes. CloudFormation cannot update a stack when a custom" in refusal
    )
    assert "hyperpod.zones" in refusal


def test_a_moved_subnet_is_refused_and_takes_what_follows_with_it(everything: Assembly) -> None:
    live = _templates(everything.outdir)
    new = copy.deepcopy(live)
    network = new["temper-all-network"]["Resources"]
    subnets = {k: v for k, v in network.items() if v["Type"] == "AWS::EC2::Subnet"}
    [nat] = [k for k, v in subnets.items() if v["Properties"]["CidrBlock"] == "10.80.96.0/27"]
    network[nat]["Properties"]["CidrBlock"] = "10.80.64.0/27"
    changes = {
        each.logical_id: each
        for each in make_plan(live, new).changes
        if each.kind in ("replaced", "updated")
    }
    assert changes[nat].kind == "replaced"
    gateways = [c for c in changes.values() if c.resource_type == "AWS::EC2::NatGateway"]
    assert [c.refusal for c in gateways] == [
        "Elastic IP address is already associated with a NAT gateway"
    ]
    network[nat]["Properties"]["CidrBlock"] = "10.80.16.0/27"
    assert any("conflicts with another subnet" in r for r in make_plan(live, new).refusals)


def test_an_export_of_a_replaced_resource_is_refused(everything: Assembly) -> None:
    live = _templates(everything.outdir)
    new = copy.deepcopy(live)
    [group] = [
        each
        for key, each in new["temper-all-network"]["Resources"].items()
        if key.startswith("NodesGroup") and each["Type"] == "AWS::EC2::SecurityGroup"
    ]
    group["Properties"]["GroupDescription"] = "another"
    refusals = make_plan(live, new).refusals
    assert any("cannot be updated as it is in use by temper-all-hyperpod" in r for r in refusals)


def test_a_copied_assembly_has_other_hashes(everything: Assembly, tmp_path: Path) -> None:
    templates = _templates(everything.outdir)
    changed = {**templates["temper-all-storage"], "Description": "changed"}
    copied = with_templates(everything.outdir, {"temper-all-storage": changed}, tmp_path / "copy")
    assert read_assembly(copied)["temper-all-storage"].template == changed
    manifests = [
        json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
        for folder in (everything.outdir, copied)
    ]
    urls = [
        each["temper-all-storage"]["properties"]["stackTemplateAssetObjectUrl"]
        for each in manifests
    ]
    assert urls[0] != urls[1]
    assets = json.loads((copied / "temper-all-storage.assets.json").read_text(encoding="utf-8"))
    assert Path(urls[1]).stem in assets["files"]


def test_only_what_is_in_use_is_kept(everything: Assembly, without_hyperpod: Assembly) -> None:
    live, new = _templates(everything.outdir), _templates(without_hyperpod.outdir)
    expanded = expand(live, new)
    storage = set(expanded["temper-all-storage"]["Resources"]) - set(
        new["temper-all-storage"]["Resources"]
    )
    assert storage == {
        "LustreFileSystem4AFDAE78",
        "LustreData4E2EAF21",
        "PublishedLustreFileSystemA294B9AB",
    }
    assert expand(new, live) == {}


def test_the_plan_says_what_goes(everything: Assembly, without_hyperpod: Assembly) -> None:
    plan = make_plan(_templates(everything.outdir), _templates(without_hyperpod.outdir))
    text = "\n".join(plan_lines(plan))
    assert "Lustre" in text
    assert "the old one stays in the account and is no longer managed" in text
    assert (
        "In two steps, because other stacks still use what goes: temper-all-security, "
        "temper-all-storage." in text
    )
    assert list(plan_lines(make_plan({}, plan.new))) == [
        "Nothing is deployed yet: 11 stacks are created."
    ]


def test_an_endpoint_in_a_zone_without_its_service_is_refused(everything: Assembly) -> None:
    class Ec2:
        def describe_vpc_endpoint_services(self) -> dict[str, Any]:
            zones = {"ssm": ["us-east-1a"], "sts": ["us-east-1a", "us-east-1b"]}
            return {
                "ServiceDetails": [
                    {"ServiceName": f"com.amazonaws.us-east-1.{name}", "AvailabilityZones": each}
                    for name, each in zones.items()
                ]
            }

    plan = make_plan({}, _templates(everything.outdir))
    assert list(unsupported_zones(plan, Ec2())) == [
        "com.amazonaws.us-east-1.ssm is not offered in us-east-1b; write "
        "`network.endpoint_zones_lacking: {ssm: [us-east-1b]}`"
    ]


def _last(log: list[str], name: str) -> int:
    return len(log) - 1 - log[::-1].index(name)
