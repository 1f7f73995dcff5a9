"""Selection of the target and the submit node of a HyperPod cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

from catalog.run_metrics import metric_namespace
from emulator.environment import EmulatedEnvironment
from launch.aws.session import AwsSession
from launch.eks.kubectl import Kubectl
from launch.eks.manifests import KubernetesSettings
from launch.errors import LaunchError
from launch.slurm.shell import SshShell
from launch.slurm.software import environment_digest
from launch.targets import hyperpod
from launch.targets.eks import EksTarget
from launch.targets.hyperpod import _submit_shell
from launch.targets.slurm import SlurmTarget
from tests.unit.launch.conftest import boto
from tests.unit.launch.fake_accounts import ACCOUNT, DEV, VALUES

NAME = "temper-dev-cluster"
CLUSTER: dict[str, Any] = {
    "ClusterName": NAME,
    "ClusterArn": f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:cluster/abcdefghij12",
    "ClusterStatus": "InService",
    "InstanceGroups": [
        {"InstanceGroupName": "head", "SlurmConfig": {"NodeType": "Controller"}},
        {"InstanceGroupName": "door", "SlurmConfig": {"NodeType": "Login"}},
        {"InstanceGroupName": "gpus", "SlurmConfig": {"NodeType": "Compute"}},
    ],
}


def node(group: str, status: str = "Running") -> dict[str, Any]:
    return {
        "InstanceGroupName": group,
        "InstanceId": f"i-{group}",
        "InstanceType": "ml.c5.xlarge",
        "LaunchTime": 0,
        "InstanceStatus": {"Status": status},
    }


@pytest.fixture
def account(emulated: EmulatedEnvironment, monkeypatch: pytest.MonkeyPatch) -> AwsSession:
    monkeypatch.delenv("SLURM_LOGIN", raising=False)
    return AwsSession(DEV)


def enter(account: AwsSession, *nodes: dict[str, Any]) -> Any:
    with Stubber(account.client("sagemaker")) as answers:
        answers.add_response("list_cluster_nodes", {"ClusterNodeSummaries": list(nodes)})
        return _submit_shell(account, CLUSTER)


def test_login_node_through_session_manager(account: AwsSession) -> None:
    shell = enter(account, node("gpus"), node("head"), node("door"))
    assert isinstance(shell, SshShell)
    command = " ".join(shell.command("sinfo"))
    assert "--target sagemaker-cluster:abcdefghij12_door-i-door --region us-east-1" in command
    assert "AWS-StartSSHSession" in command and "ubuntu@door-i-door" in command


def test_controller_without_running_login_node(account: AwsSession) -> None:
    shell = enter(account, node("gpus"), node("door", "Pending"), node("head"))
    assert "_head-i-head " in " ".join(shell.command("sinfo"))


def test_no_submit_node(account: AwsSession) -> None:
    with pytest.raises(LaunchError, match="no running login or controller node"):
        enter(account, node("gpus"))


def test_login_node_named_by_user(account: AwsSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_LOGIN", "me@login")
    assert _submit_shell(account, CLUSTER).label == "me@login"


@pytest.fixture
def published(emulated: EmulatedEnvironment) -> Iterator[None]:
    """Publish the parameter of a cluster."""
    ssm = boto(emulated, "ssm")
    values = {
        "cluster": NAME,
        "namespaces": "hyperpod-ns-a,hyperpod-ns-b",
        "teams": "a,b",
    }
    for name, value in values.items():
        ssm.put_parameter(Name=f"/{DEV.prefix}/hyperpod/{name}", Value=value, Type="String")
    yield
    for name in values:
        ssm.delete_parameter(Name=f"/{DEV.prefix}/hyperpod/{name}")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {**CLUSTER, "ClusterStatus": "Failed", "FailureMessage": "no capacity"},
            f"the cluster {NAME} is Failed: no capacity",
        ),
        ({**CLUSTER, "ClusterStatus": "Creating"}, "it accepts no jobs now"),
    ],
)
def test_cluster_accepts_no_jobs(
    published: None, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], message: str
) -> None:
    account = AwsSession(DEV)
    monkeypatch.setattr(hyperpod, "AwsSession", lambda environment: account)
    with Stubber(account.client("sagemaker")) as answers:
        answers.add_response("describe_cluster", told)
        with pytest.raises(LaunchError, match=message):
            hyperpod.from_environment(DEV)


@pytest.mark.parametrize("kind", ["slurm", "eks"])
def test_orchestrator_selects_target(
    published: None, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    account = AwsSession(DEV)
    monkeypatch.setattr(hyperpod, "AwsSession", lambda environment: account)
    monkeypatch.setenv("SLURM_LOGIN", "me@login")
    monkeypatch.setattr("launch.targets.eks.kubectl_of", lambda *_: Kubectl("hyperpod-ns-a"))
    arn = f"arn:aws:eks:us-east-1:{ACCOUNT}:cluster/c"
    how = {"Eks": {"ClusterArn": arn}} if kind == "eks" else {"Slurm": {}}
    with Stubber(account.client("sagemaker")) as answers:
        answers.add_response("describe_cluster", {**CLUSTER, "Orchestrator": how})
        target = hyperpod.from_environment(DEV)
    assert target.name == "hyperpod"
    assert type(target).__name__.lower() == f"{kind}target"
    if isinstance(target, EksTarget):
        assert target.cluster == KubernetesSettings(
            "hyperpod-ns-a",
            "fsx-claim",
            "temper-job",
            metric_namespace=metric_namespace("temper-dev"),
            region=DEV.region,
        )
        assert target.teams == ("a", "b")


@pytest.mark.parametrize(
    ("published_software", "instance", "software", "image"),
    [
        ("container", "ml.p5.48xlarge", "container", "/gpu@sha256:"),
        ("container", "ml.trn1.32xlarge", "container", "/neuron@sha256:"),
        ("environment", "ml.p5.48xlarge", "environment", "/gpu@sha256:"),
        # A platform that was deployed before the setting existed.
        ("", "ml.p5.48xlarge", "container", "/gpu@sha256:"),
    ],
)
def test_software_of_the_environment(
    published: None,
    emulated: EmulatedEnvironment,
    monkeypatch: pytest.MonkeyPatch,
    published_software: str,
    instance: str,
    software: str,
    image: str,
) -> None:
    ssm, name = boto(emulated, "ssm"), f"/{DEV.prefix}/hyperpod/software"
    neuron = f"/{DEV.prefix}/images/neuron/uri"
    ssm.put_parameter(Name=neuron, Value=VALUES["images/neuron/uri"], Type="String", Overwrite=True)
    if published_software:
        ssm.put_parameter(Name=name, Value=published_software, Type="String")
    account = AwsSession(DEV)
    monkeypatch.setattr(hyperpod, "AwsSession", lambda environment: account)
    monkeypatch.setenv("SLURM_LOGIN", "me@login")
    monkeypatch.delenv("SLURM_PYTHON", raising=False)
    groups = [{**group, "InstanceType": instance} for group in CLUSTER["InstanceGroups"]]
    described = {**CLUSTER, "InstanceGroups": groups, "Orchestrator": {"Slurm": {}}}
    with Stubber(account.client("sagemaker")) as answers:
        answers.add_response("describe_cluster", described)
        target = hyperpod.from_environment(DEV)
    if published_software:
        ssm.delete_parameter(Name=name)
    assert isinstance(target, SlurmTarget)
    assert target.cluster.software == software
    assert image in target.cluster.image
    assert target.cluster.group == "temper"
    assert target.cluster.setup_command == "make cluster-software ENV=dev"
    if software == "environment":
        assert target.cluster.python.endswith(f"{environment_digest()}/bin/python")
