"""Target `hyperpod`: the environment's HyperPod cluster, orchestrated by Slurm or by EKS."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from launch.aws.platform_parameters import read_platform_parameters
from launch.aws.session import AwsSession, explain_aws_errors
from launch.errors import LaunchError
from launch.slurm.script import SlurmSettings
from launch.slurm.shell import Shell, SshShell

if TYPE_CHECKING:
    from launch.environment import LaunchEnvironment
    from launch.targets.base import Target

_SUBMIT_NODE_TYPES = ("Login", "Controller")
"""Node types on which sbatch may be run, in order of preference."""


def from_environment(environment: LaunchEnvironment | None) -> Target:
    """Return the environment's cluster as a Slurm or EKS target.

    Raises:
        LaunchError: The environment has no cluster, or none that accepts jobs.
    """
    if environment is None:
        raise LaunchError("TARGET=hyperpod needs an environment: ENV=dev")
    account = AwsSession(environment)
    platform = read_platform_parameters(environment, account.client("ssm"))
    name = platform.get("hyperpod/cluster")
    if name is None:
        raise LaunchError(
            f"the environment {environment.name} has no HyperPod cluster. Set hyperpod.enabled: "
            f"true in environments/{environment.name}.yaml and make deploy ENV={environment.name}, "
            "or use TARGET=sagemaker, which needs no cluster"
        )
    with explain_aws_errors(f"describing the cluster {name}"):
        described: dict[str, Any] = account.client("sagemaker").describe_cluster(ClusterName=name)
    if described["ClusterStatus"] not in ("InService", "Updating"):
        raise LaunchError(
            f"the cluster {name} is {described['ClusterStatus']}: "
            f"{described.get('FailureMessage') or 'it accepts no jobs now'}"
        )
    if "Eks" in described.get("Orchestrator", {}):
        from launch.targets import eks

        return eks.hyperpod_target(account, platform)
    from launch.targets.slurm import SlurmTarget

    root = PurePosixPath(os.environ.get("SLURM_ROOT", "/fsx/temper"))
    cluster = SlurmSettings(
        root=root,
        python=os.environ.get("SLURM_PYTHON", str(root / "venv/bin/python")),
        auto_resume=True,
        data_bucket=platform["buckets/data"],
        data_mount="/fsx/data",
    )
    return SlurmTarget(_submit_shell(account, described), cluster, "hyperpod")


def _submit_shell(account: AwsSession, cluster: dict[str, Any]) -> Shell:
    """Return the shell of a node on which jobs are submitted.

    Raises:
        LaunchError: No such node is running.
    """
    if login := os.environ.get("SLURM_LOGIN"):
        return SshShell(login)
    name = cluster["ClusterName"]
    node_types = {
        group["InstanceGroupName"]: group.get("SlurmConfig", {}).get("NodeType", "")
        for group in cluster.get("InstanceGroups", ())
    }
    with explain_aws_errors(f"listing the nodes of {name}"):
        pages = account.client("sagemaker").get_paginator("list_cluster_nodes")
        nodes = [
            node
            for page in pages.paginate(ClusterName=name)
            for node in page["ClusterNodeSummaries"]
        ]
    for node_type in _SUBMIT_NODE_TYPES:
        for node in nodes:
            running = node["InstanceStatus"]["Status"] == "Running"
            if running and node_types.get(node["InstanceGroupName"]) == node_type:
                # Session Manager addresses a HyperPod node by the id in the cluster's ARN.
                cluster_id = cluster["ClusterArn"].rpartition("/")[2]
                group, instance = node["InstanceGroupName"], node["InstanceId"]
                user = os.environ.get("SLURM_USER", "ubuntu")
                return SshShell.through_session_manager(
                    user,
                    f"sagemaker-cluster:{cluster_id}_{group}-{instance}",
                    account.environment.region,
                )
    raise LaunchError(
        f"the cluster {name} has no running login or controller node. "
        f"`aws sagemaker list-cluster-nodes --cluster-name {name}` shows the state of each"
    )
