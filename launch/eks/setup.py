"""Command `temper cluster-setup`: apply the objects that jobs need to the environment's cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.session import AwsSession, explain_aws_errors
from launch.confirm import confirm
from launch.eks.api_server import kubectl_of
from launch.eks.cluster_objects import (
    CLAIM,
    FIELD_MANAGER,
    LABELS,
    AutoscaledGroup,
    ClusterSetup,
    LustreVolume,
    cluster_objects,
)
from launch.eks.job_lookup import JOB_KIND
from launch.eks.kubectl import Kubectl
from launch.eks.manifests import to_yaml
from launch.eks.namespaces import TEAM_NAMESPACE, published_namespaces, published_teams
from launch.environment import LaunchEnvironment
from launch.errors import LaunchError
from training.console import say

NODE_POOLS = "nodepools.karpenter.sh"
_BOUND_TIMEOUT_S = 50


def set_up_cluster(environment: LaunchEnvironment, *, print_only: bool = False) -> int:
    """Apply the objects by server-side apply, which changes nothing if they exist.

    Args:
        environment: Environment of the cluster.
        print_only: Print the manifests, for review or for another tool to apply.

    Raises:
        LaunchError: The cluster is not ready for jobs, or the caller may not change it.
    """
    account = AwsSession(environment)
    account.caller()
    platform = read_platform_parameters(environment, account.client("ssm"))
    setup = read_setup(account, platform)
    if print_only:
        say(to_yaml(cluster_objects(setup)).rstrip("\n"))
        return 0
    kubectl = kubectl_of(account, platform)
    require_cluster(kubectl, setup)
    setup = replace(setup, own_claims=_own_claims(kubectl, setup))
    objects = cluster_objects(setup)
    names = ", ".join(setup.namespaces)
    confirm(f"Apply {len(objects)} objects to {platform['hyperpod/eks']}, for jobs in {names}?")
    say(apply_objects(kubectl, objects))
    for namespace in sorted(setup.own_claims):
        say(f"{namespace}: its claim {CLAIM} was not created by this command, and is used as it is")
    for namespace in setup.namespaces:
        kubectl.in_namespace(namespace).run(
            "wait",
            "--for=jsonpath={.status.phase}=Bound",
            f"--timeout={_BOUND_TIMEOUT_S}s",
            f"persistentvolumeclaim/{CLAIM}",
        )
    say(f"engineers can run jobs in {names}: temper doctor --env {environment.name} checks it")
    return 0


def apply_objects(kubectl: Kubectl, objects: list[dict[str, Any]]) -> str:
    """Apply objects by server-side apply, and return what kubectl says about each.

    Args:
        kubectl: Client without a namespace.
        objects: The objects.
    """
    command = ("apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "-f", "-")
    return kubectl.run(*command, stdin=to_yaml(objects)).rstrip("\n")


def _own_claims(kubectl: Kubectl, setup: ClusterSetup) -> frozenset[str]:
    """Return the namespaces that have a claim without our label."""
    found = set()
    for namespace in setup.namespaces:
        claim = kubectl.in_namespace(namespace).find("persistentvolumeclaim", CLAIM)
        if claim and not LABELS.items() <= claim["metadata"].get("labels", {}).items():
            found.add(namespace)
    return frozenset(found)


def read_setup(account: AwsSession, platform: PlatformParameters) -> ClusterSetup:
    """Return what the objects depend on, from the platform's parameters and its file system.

    Raises:
        LaunchError: The platform has no EKS cluster, or is older than this command.
    """
    name = account.environment.name
    if platform.get("hyperpod/eks") is None:
        raise LaunchError(
            f"the environment {name} has no EKS cluster. Set hyperpod.orchestrator: eks in "
            f"environments/{name}.yaml, and deploy it: make deploy ENV={name}"
        )
    namespaces = published_namespaces(platform)
    if not namespaces:
        raise LaunchError(
            f"the platform of {name} is older than this command. Deploy it again: "
            f"make deploy ENV={name}"
        )
    teams = published_teams(platform)
    return ClusterSetup(
        namespaces,
        frozenset(TEAM_NAMESPACE.format(team) for team in teams),
        _lustre_volume(account, platform),
        _autoscaled_groups(platform),
    )


def _lustre_volume(account: AwsSession, platform: PlatformParameters) -> LustreVolume:
    file_system = platform["lustre/file-system"]
    with explain_aws_errors(f"describing the file system {file_system}"):
        answer = account.client("fsx").describe_file_systems(FileSystemIds=[file_system])
    described = answer["FileSystems"][0]
    return LustreVolume(
        file_system,
        described["DNSName"],
        described["LustreConfiguration"]["MountName"],
        described["StorageCapacity"],
    )


def _autoscaled_groups(platform: PlatformParameters) -> tuple[AutoscaledGroup, ...]:
    text = platform.get("hyperpod/autoscaled-groups") or ""
    rows = [row.split(":") for row in text.split(",") if row]
    return tuple(
        AutoscaledGroup(name, instance, int(count), int(minutes))
        for name, instance, count, minutes in rows
    )


def require_cluster(kubectl: Kubectl, setup: ClusterSetup) -> None:
    """Raise unless the cluster has what AWS's own installations bring.

    Raises:
        LaunchError: Lists everything that is missing.
    """
    missing = []
    if not has_kind(kubectl, JOB_KIND):
        missing.append(
            f"{JOB_KIND}: install HyperPod's Helm chart, which has Kubeflow's training operator"
        )
    if setup.autoscaled_groups and not has_kind(kubectl, NODE_POOLS):
        missing.append(
            f"{NODE_POOLS}: HyperPod installs Karpenter once the cluster's autoscaling is "
            "InService; `aws sagemaker describe-cluster` shows it as AutoScaling.Status"
        )
    missing += [
        f"the namespace {namespace}: task governance creates it with the team's quota; install "
        "its EKS add-on (amazon-sagemaker-hyperpod-taskgovernance) and deploy the platform"
        for namespace in sorted(setup.teams)
        if kubectl.find("namespace", namespace) is None
    ]
    if missing:
        raise LaunchError("the cluster lacks " + "; and ".join(missing))


def has_kind(kubectl: Kubectl, kind: str) -> bool:
    """Return whether the cluster serves a kind of objects, as it tells anyone who is signed in."""
    group = kind.partition(".")[2]
    served = kubectl.run("api-resources", f"--api-group={group}", "--output=name").split()
    return kind in served
