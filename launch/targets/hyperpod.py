"""Target `hyperpod`: the environment's HyperPod cluster, orchestrated by Slurm or by EKS."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from catalog.run_metrics import metric_namespace
from launch.aws.hyperpod_nodes import describe_cluster, submit_node
from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.session import AwsSession
from launch.environment import require_environment
from launch.resources import image_kind
from launch.slurm.script import SlurmSettings
from launch.slurm.session_manager import NodeConnection, chosen_identity, ssh_folder
from launch.slurm.shell import Shell, SshShell
from launch.slurm.software import environment_folder

if TYPE_CHECKING:
    from launch.environment import LaunchEnvironment
    from launch.targets.base import SharedTarget


def from_environment(environment: LaunchEnvironment | None) -> SharedTarget:
    """Return the environment's cluster as a Slurm or EKS target.

    Raises:
        LaunchError: The environment has no cluster, or none that accepts jobs.
    """
    environment = require_environment(environment, "hyperpod")
    account = AwsSession(environment)
    platform = read_platform_parameters(environment, account.client("ssm"))
    described = describe_cluster(account, platform)
    if "Eks" in described.get("Orchestrator", {}):
        from launch.targets import eks

        return eks.hyperpod_target(account, platform)
    from launch.targets.slurm import SlurmTarget

    root = PurePosixPath(os.environ.get("SLURM_ROOT", "/fsx/temper"))
    cluster = SlurmSettings(
        root=root,
        python=os.environ.get("SLURM_PYTHON", ""),
        software=_software(platform),
        image=platform.get(f"images/{_image_kind(described)}/uri") or "",
        group="temper",
        setup_command=f"make cluster-software ENV={environment.name}",
        auto_resume=True,
        metric_namespace=metric_namespace(environment.prefix),
        variables=(("AWS_REGION", environment.region),),
        data_bucket=platform["buckets/data"],
        data_mount="/fsx/data",
    )
    if cluster.software == "environment":
        cluster = replace(cluster, python=str(environment_folder(cluster) / "bin/python"))
    return SlurmTarget(_submit_shell(account, described), cluster, "hyperpod")


def _software(platform: PlatformParameters) -> Literal["python", "container", "environment"]:
    """Return what executes jobs; a Python that the user names comes first."""
    if os.environ.get("SLURM_PYTHON"):
        return "python"
    return "environment" if platform.get("hyperpod/software") == "environment" else "container"


def _image_kind(cluster: dict[str, Any]) -> str:
    """Return the kind of image for the accelerators of the compute nodes."""
    kinds = {
        image_kind(group.get("InstanceType", ""))
        for group in cluster.get("InstanceGroups", ())
        if group.get("SlurmConfig", {}).get("NodeType") == "Compute"
    }
    return "neuron" if kinds == {"neuron"} else "gpu"


def _submit_shell(account: AwsSession, cluster: dict[str, Any]) -> Shell:
    """Return the shell of a node on which jobs are submitted.

    Raises:
        LaunchError: No such node is running.
    """
    if login := os.environ.get("SLURM_LOGIN"):
        return SshShell(login)
    environment = account.environment
    user, identity = chosen_identity(environment.prefix)
    connection = NodeConnection(
        environment.prefix,
        environment.region,
        submit_node(account, cluster),
        os.environ.get("SLURM_USER") or user,
        identity,
    )
    ssh_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    hint = f"Let your key in, once per node: make connect ENV={environment.name}"
    return SshShell(
        f"{connection.user}@{connection.node.name}",
        [f"-o{name}={value}" for name, value in connection.options.items()],
        hint=hint,
    )
