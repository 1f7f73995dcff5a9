"""Connection to an EKS cluster, and the set-up of the cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.stub import Stubber

from emulator.environment import EmulatedEnvironment
from launch.aws.session import AwsSession
from launch.eks import api_server, connect, setup
from launch.eks.api_server import EksEndpoint, kubectl_of, read_endpoint, write_kubeconfig
from launch.eks.cluster_objects import AutoscaledGroup
from launch.eks.kubectl import Kubectl
from launch.errors import LaunchError
from tests.unit.launch.fake_accounts import DEV, LUSTRE, platform
from tests.unit.launch.test_cluster_objects import SETUP, VOLUME

HOST = "ABCD1234.gr7.us-east-1.eks.amazonaws.com"
ENDPOINT = EksEndpoint("temper-dev-eks", "us-east-1", f"https://{HOST}", "Y2VydA==", False)
TARGET = "sagemaker-cluster:abcdefghij12_workers-i-0123456789abcdef0"
PLATFORM = platform(
    **LUSTRE,
    **{
        "hyperpod/eks": "temper-dev-eks",
        "hyperpod/namespaces": "hyperpod-ns-research",
        "hyperpod/teams": "research",
        "hyperpod/autoscaled-groups": "experiments:ml.g5.12xlarge:4:30",
    },
)


def described(status: str = "ACTIVE", public: bool = False) -> dict[str, Any]:
    """Return the response of DescribeCluster, which botocore's model checks."""
    return {
        "cluster": {
            "name": "temper-dev-eks",
            "status": status,
            "endpoint": f"https://{HOST}",
            "certificateAuthority": {"data": "Y2VydA=="},
            "resourcesVpcConfig": {"endpointPublicAccess": public, "endpointPrivateAccess": True},
        }
    }


@pytest.fixture(autouse=True)
def credentials(emulated: EmulatedEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EKS_CONTEXT", raising=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def test_configuration_for_a_tunnel(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "research")
    path = write_kubeconfig("temper-dev", ENDPOINT, 16443)
    assert path == home / ".kube/temper-dev.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    [cluster] = config["clusters"]
    # The tunnel ends on this machine, and the server still proves its own name.
    assert cluster["cluster"] == {
        "server": "https://127.0.0.1:16443",
        "tls-server-name": HOST,
        "certificate-authority-data": "Y2VydA==",
    }
    [user] = config["users"]
    command = user["user"]["exec"]
    assert " ".join(["aws", *command["args"]]) == (
        "aws --region us-east-1 eks get-token --cluster-name temper-dev-eks --output json"
    )
    assert command["env"] == [{"name": "AWS_PROFILE", "value": "research"}]
    assert set(user["user"]) == {"exec"}, "the file has no credentials"


def test_configuration_without_a_tunnel(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    config = yaml.safe_load(write_kubeconfig("temper-dev", ENDPOINT, None).read_text())
    [cluster] = config["clusters"]
    assert cluster["cluster"]["server"] == f"https://{HOST}"
    assert "tls-server-name" not in cluster["cluster"]
    assert config["users"][0]["user"]["exec"]["env"] is None


def test_command_of_the_tunnel() -> None:
    command = connect.tunnel_command(ENDPOINT, TARGET, 16443)
    assert command[:3] == ["aws", "ssm", "start-session"]
    assert command[command.index("--target") + 1] == TARGET
    assert command[command.index("--document-name") + 1] == connect.DOCUMENT
    assert json.loads(command[-1]) == {
        "host": [HOST],
        "portNumber": ["443"],
        "localPortNumber": ["16443"],
    }


def connect_through(
    account: AwsSession, *nodes: tuple[str, str], public: bool = False, node: str = ""
) -> str:
    """Connect to a cluster with these nodes, by instance id and status; return the server."""
    summaries = [
        {
            "InstanceGroupName": "workers",
            "InstanceId": instance_id,
            "InstanceType": "ml.g5.12xlarge",
            "LaunchTime": 0,
            "InstanceStatus": {"Status": status},
        }
        for instance_id, status in nodes
    ]
    cluster = {
        "ClusterName": "temper-dev-cluster",
        "ClusterArn": "arn:aws:sagemaker:us-east-1:123456789012:cluster/abcdefghij12",
        "ClusterStatus": "InService",
        "InstanceGroups": [{"InstanceGroupName": "workers"}],
    }
    with (
        Stubber(account.client("eks")) as eks,
        Stubber(account.client("sagemaker")) as sagemaker,
    ):
        eks.add_response("describe_cluster", described(public=public), {"name": "temper-dev-eks"})
        if nodes:
            sagemaker.add_response("describe_cluster", cluster)
            sagemaker.add_response("list_cluster_nodes", {"ClusterNodeSummaries": summaries})
        values = {
            **PLATFORM.values,
            **({"hyperpod/cluster": "temper-dev-cluster"} if nodes else {}),
        }
        code = connect.connect_to_eks(account, platform(**values), node=node, setup_only=True)
    assert code == 0
    config = yaml.safe_load(api_server.kubeconfig_path(DEV.prefix).read_text(encoding="utf-8"))
    return str(config["clusters"][0]["cluster"]["server"])


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


def test_tunnel_through_a_running_node(
    account: AwsSession, home: Path, programs: None, capsys: Any
) -> None:
    server = connect_through(account, ("i-1", "Pending"), ("i-2", "Running"))
    assert server == "https://127.0.0.1:16443"
    printed = capsys.readouterr().out
    assert "--target sagemaker-cluster:abcdefghij12_workers-i-2" in printed
    assert f"export KUBECONFIG={api_server.kubeconfig_path(DEV.prefix)}" in printed


def test_a_public_endpoint_needs_no_tunnel(account: AwsSession, home: Path, programs: None) -> None:
    assert connect_through(account, public=True) == f"https://{HOST}"
    assert connect_through(account, node="none") == f"https://{HOST}"
    chosen = connect_through(account, ("i-1", "Running"), public=True, node="workers")
    assert chosen == "https://127.0.0.1:16443"


@pytest.mark.parametrize(
    ("nodes", "node", "says"),
    [
        ((), "", "no node yet, so no tunnel can be opened. Before the first node, work from"),
        ((("i-1", "Pending"),), "", "workers-i-1 is Pending"),
        ((("i-1", "Running"),), "gpus", "--node gpus: no group .* its groups are workers"),
    ],
)
def test_no_node_for_a_tunnel(
    account: AwsSession, home: Path, programs: None, nodes: Any, node: str, says: str
) -> None:
    with pytest.raises(LaunchError, match=says):
        connect_through(account, *nodes, node=node)


def test_every_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(LaunchError, match=r"kubectl \(.*aws \(.*session-manager-plugin \("):
        connect.require_programs(tunnel=True)
    with pytest.raises(LaunchError) as caught:
        connect.require_programs(tunnel=False)
    assert "session-manager-plugin" not in str(caught.value)


def test_a_cluster_that_is_not_ready(account: AwsSession) -> None:
    with Stubber(account.client("eks")) as answers:
        answers.add_response("describe_cluster", described("CREATING"))
        with pytest.raises(LaunchError, match="temper-dev-eks is CREATING"):
            read_endpoint(account, PLATFORM)
    with pytest.raises(LaunchError, match="dev has no EKS cluster"):
        read_endpoint(account, platform())


@pytest.mark.parametrize(
    ("cluster", "ours"),
    [
        ({"server": f"https://{HOST}"}, True),
        ({"server": "https://127.0.0.1:16443", "tls-server-name": HOST}, True),
        ({"server": "https://OTHER.eks.amazonaws.com"}, False),
        ({}, False),
    ],
)
def test_objects_go_to_the_cluster_of_the_environment_only(
    account: AwsSession, home: Path, monkeypatch: pytest.MonkeyPatch, cluster: Any, ours: bool
) -> None:
    view = json.dumps({"clusters": [{"cluster": cluster}] if cluster else None})
    monkeypatch.setattr(Kubectl, "run", lambda *_, **__: view)
    with Stubber(account.client("eks")) as answers:
        answers.add_response("describe_cluster", described())
        if ours:
            assert kubectl_of(account, PLATFORM, "a").namespace == "a"
        else:
            with pytest.raises(LaunchError, match=r"temper connect --env dev"):
                kubectl_of(account, PLATFORM)


def file_system() -> dict[str, Any]:
    return {
        "FileSystems": [
            {
                "FileSystemId": VOLUME.file_system,
                "DNSName": VOLUME.dns_name,
                "StorageCapacity": VOLUME.capacity_gib,
                "LustreConfiguration": {"MountName": VOLUME.mount_name},
            }
        ]
    }


def test_setup_reads_the_platform_and_its_file_system(account: AwsSession) -> None:
    with Stubber(account.client("fsx")) as answers:
        answers.add_response("describe_file_systems", file_system())
        read = setup.read_setup(account, PLATFORM)
    assert read.namespaces == ("hyperpod-ns-research",)
    assert read.teams == {"hyperpod-ns-research"}
    assert read.volume == VOLUME
    assert read.autoscaled_groups == (AutoscaledGroup("experiments", "ml.g5.12xlarge", 4, 30),)


def test_setup_without_what_it_needs(account: AwsSession) -> None:
    with pytest.raises(LaunchError, match=r"no EKS cluster. Set hyperpod\.orchestrator: eks"):
        setup.read_setup(account, platform())
    with pytest.raises(LaunchError, match="older than this command"):
        setup.read_setup(account, platform(**{"hyperpod/eks": "temper-dev-eks"}))


def test_everything_that_the_cluster_lacks_is_named() -> None:
    class Bare(Kubectl):
        def run(self, *arguments: str, stdin: str = "") -> str:
            return ""

    groups = (AutoscaledGroup("experiments", "ml.g5.12xlarge", 4, 30),)
    with pytest.raises(LaunchError) as caught:
        setup.require_cluster(Bare(""), setup.replace(SETUP, autoscaled_groups=groups))
    for lack in ("pytorchjobs.kubeflow.org", "nodepools.karpenter.sh", "hyperpod-ns-research"):
        assert lack in str(caught.value)


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/managed-by": "temper"}])
def test_a_claim_of_somebody_else_is_kept(labels: dict[str, str]) -> None:
    class Claimed(Kubectl):
        def run(self, *arguments: str, stdin: str = "") -> str:
            return json.dumps({"metadata": {"labels": labels}})

    kept = setup._own_claims(Claimed(""), SETUP)
    assert kept == (frozenset() if labels else frozenset(SETUP.namespaces))
    objects = setup.cluster_objects(setup.replace(SETUP, own_claims=kept))
    claims = [each for each in objects if each["kind"].startswith("PersistentVolume")]
    assert len(claims) == (4 if labels else 0)
