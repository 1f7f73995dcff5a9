"""The environment's HyperPod cluster, whichever way it is run: by Slurm or by EKS."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from launch.aws.platform_parameters import read_platform_parameters
from launch.aws.session import AwsSession, explained
from launch.errors import LaunchError
from launch.slurm.script import SlurmSettings
from launch.slurm.shell import Shell, Ssh

if TYPE_CHECKING:
    from launch.environment import LaunchEnvironment
    from launch.targets.base import Target

_ENTRANCES = ("Login", "Controller")
"""Where sbatch may be run, the better one first."""


def from_environment(environment: LaunchEnvironment | None) -> Target:
    """Return the environment's cluster.

    Raises:
        LaunchError: It has none, or none that can be entered.
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
    with explained(f"asking for the cluster {name}"):
        found: dict[str, Any] = account.client("sagemaker").describe_cluster(ClusterName=name)
    if found["ClusterStatus"] not in ("InService", "Updating"):
        raise LaunchError(
            f"the cluster {name} is {found['ClusterStatus']}: "
            f"{found.get('FailureMessage') or 'it takes no jobs now'}"
        )
    if "Eks" in found.get("Orchestrator", {}):
        from launch.targets import eks

        target = eks.from_environment(environment)
        target.name = "hyperpod"
        return target
    from launch.targets.slurm import SlurmTarget

    root = PurePosixPath(os.environ.get("SLURM_ROOT", "/fsx/temper"))
    cluster = SlurmSettings(
        root=root,
        python=os.environ.get("SLURM_PYTHON", str(root / "venv/bin/python")),
        auto_resume=True,
        data_bucket=platform["buckets/data"],
        data_mount="/fsx/data",
    )
    return SlurmTarget(_entrance(account, found), cluster, "hyperpod")


def _entrance(account: AwsSession, cluster: dict[str, Any]) -> Shell:
    """Return how a node is reached on which jobs are submitted."""
    if login := os.environ.get("SLURM_LOGIN"):
        return Ssh(login)
    name = cluster["ClusterName"]
    kinds = {
        group["InstanceGroupName"]: group.get("SlurmConfig", {}).get("NodeType", "")
        for group in cluster.get("InstanceGroups", ())
    }
    with explained(f"asking for the nodes of {name}"):
        pages = account.client("sagemaker").get_paginator("list_cluster_nodes")
        nodes = [
            node
            for page in pages.paginate(ClusterName=name)
            for node in page["ClusterNodeSummaries"]
        ]
    for kind in _ENTRANCES:
        for node in nodes:
            running = node["InstanceStatus"]["Status"] == "Running"
            if running and kinds.get(node["InstanceGroupName"]) == kind:
                number = cluster["ClusterArn"].rpartition("/")[2]
                target = (
                    f"sagemaker-cluster:{number}_{node['InstanceGroupName']}-{node['InstanceId']}"
                )
                user = os.environ.get("SLURM_USER", "ubuntu")
                return Ssh.through_session_manager(user, target, account.environment.region)
    raise LaunchError(
        f"the cluster {name} has no running login or controller node. "
        f"`aws sagemaker list-cluster-nodes --cluster-name {name}` says why"
    )
