"""HyperPod cluster of an environment, and its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from launch.aws.platform_parameters import PlatformParameters
from launch.aws.session import AwsSession, explain_aws_errors
from launch.errors import LaunchError

SUBMIT_NODE_TYPES = ("Login", "Controller")
"""Node types on which sbatch may be run, in order of preference."""


@dataclass(frozen=True)
class ClusterNode:
    """Node of a HyperPod cluster.

    Attributes:
        cluster_id: Id of the cluster, the last part of its ARN.
        group: Instance group.
        instance_id: EC2 instance id.
        node_type: `Controller`, `Login` or `Compute`; empty if the cluster does not say.
        status: Status of the instance, `Running` if it can be reached.
    """

    cluster_id: str
    group: str
    instance_id: str
    node_type: str
    status: str

    @property
    def name(self) -> str:
        """Name in Session Manager's target, unique for the life of the instance."""
        return f"{self.group}-{self.instance_id}"

    @property
    def session_target(self) -> str:
        """Target of Session Manager, which addresses a node by the id in the cluster's ARN."""
        return f"sagemaker-cluster:{self.cluster_id}_{self.name}"


def describe_cluster(account: AwsSession, platform: PlatformParameters) -> dict[str, Any]:
    """Return what SageMaker says about the environment's cluster.

    Raises:
        LaunchError: The environment has no cluster, or none that accepts jobs.
    """
    environment = account.environment
    name = platform.get("hyperpod/cluster")
    if name is None:
        raise LaunchError(
            f"the environment {environment.name} has no HyperPod cluster. Set hyperpod.enabled: "
            f"true in environments/{environment.name}.yaml and make deploy ENV={environment.name}, "
            "or use --target sagemaker, which needs no cluster"
        )
    with explain_aws_errors(f"describing the cluster {name}"):
        described: dict[str, Any] = account.client("sagemaker").describe_cluster(ClusterName=name)
    if described["ClusterStatus"] not in ("InService", "Updating"):
        raise LaunchError(
            f"the cluster {name} is {described['ClusterStatus']}: "
            f"{described.get('FailureMessage') or 'it accepts no jobs now'}"
        )
    return described


def list_nodes(account: AwsSession, cluster: dict[str, Any]) -> list[ClusterNode]:
    """Return the nodes of a cluster in any state.

    Args:
        account: Account of the cluster.
        cluster: Response of `DescribeCluster`.
    """
    name = cluster["ClusterName"]
    cluster_id = cluster["ClusterArn"].rpartition("/")[2]
    node_types = {
        group["InstanceGroupName"]: group.get("SlurmConfig", {}).get("NodeType", "")
        for group in cluster.get("InstanceGroups", ())
    }
    with explain_aws_errors(f"listing the nodes of {name}"):
        pages = account.client("sagemaker").get_paginator("list_cluster_nodes")
        return [
            ClusterNode(
                cluster_id,
                node["InstanceGroupName"],
                node["InstanceId"],
                node_types.get(node["InstanceGroupName"], ""),
                node["InstanceStatus"]["Status"],
            )
            for page in pages.paginate(ClusterName=name)
            for node in page["ClusterNodeSummaries"]
        ]


def submit_node(account: AwsSession, cluster: dict[str, Any], wanted: str = "") -> ClusterNode:
    """Return a running node on which people work: a login node, otherwise the controller.

    Args:
        account: Account of the cluster.
        cluster: Response of `DescribeCluster`.
        wanted: `login`, `controller`, a group or an instance id; empty for the preferred node.

    Raises:
        LaunchError: No such node is running.
    """
    name = cluster["ClusterName"]
    nodes = list_nodes(account, cluster)
    candidates = [n for kind in SUBMIT_NODE_TYPES for n in nodes if n.node_type == kind]
    matching = [
        node
        for node in candidates
        if wanted.lower() in ("", node.node_type.lower(), node.group.lower(), node.instance_id)
    ]
    for node in matching:
        if node.status == "Running":
            return node
    if wanted and candidates and not matching:
        offered = ", ".join(f"{node.group} ({node.node_type.lower()})" for node in candidates)
        raise LaunchError(
            f"NODE={wanted} is no login or controller node of {name}; take one of: {offered}. "
            "Compute nodes are reached through Slurm: srun --pty bash"
        )
    states = ", ".join(f"{node.name} is {node.status}" for node in matching) or "it has none"
    raise LaunchError(
        f"the cluster {name} has no running login or controller node ({states}). "
        f"`aws sagemaker list-cluster-nodes --cluster-name {name}` shows the state of each"
    )
