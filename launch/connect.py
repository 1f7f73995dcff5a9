"""Commands about HyperPod clusters: `temper connect`, and `temper cluster-software` of Slurm."""

from __future__ import annotations

import os
import subprocess
import sys

from launch.aws.hyperpod_nodes import describe_cluster, submit_node
from launch.aws.platform_parameters import read_platform_parameters
from launch.aws.session import AwsSession
from launch.environment import LaunchEnvironment
from launch.errors import LaunchError
from launch.slurm.session_manager import (
    DEFAULT_USER,
    NodeConnection,
    authorize_key,
    read_public_key,
    require_programs,
    write_ssh_config,
)
from training.console import say

KEY_DOCUMENT = "hyperpod/key-document"
"""Parameter of the platform with the name of the session document that adds a key."""


def connect(
    environment: LaunchEnvironment, *, node: str, user: str, key: str, setup_only: bool
) -> int:
    """Let the caller's own key in, write the ssh configuration, and open a shell.

    With EKS, write kubectl's configuration instead, and hold the tunnel to the API server open.

    Args:
        environment: Environment of the cluster.
        node: `login`, `controller`, a group or an instance id; empty for the preferred node.
            With EKS, the node through which the tunnel goes; `none` to do without.
        user: User on the node; empty for `SLURM_USER`, or the AMI's user.
        key: File of the public key; empty for ssh's usual ones.
        setup_only: Open no shell.

    Raises:
        LaunchError: A program, the cluster, the node or the key is missing, or access is refused.
    """
    account = AwsSession(environment)
    account.caller()
    platform = read_platform_parameters(environment, account.client("ssm"))
    if platform.get("hyperpod/eks"):
        if user or key:
            raise LaunchError(
                "--user and --key are for ssh to a Slurm cluster; the cluster of "
                f"{environment.name} is on EKS and needs neither"
            )
        from launch.eks.connect import connect_to_eks

        return connect_to_eks(account, platform, node=node, setup_only=setup_only)
    require_programs()
    public_key = read_public_key(key)
    cluster = describe_cluster(account, platform)
    document = platform.get(KEY_DOCUMENT)
    if document is None:
        raise LaunchError(
            f"the platform of {environment.name} is older than this command. Deploy it again: "
            f"make deploy ENV={environment.name}"
        )
    connection = NodeConnection(
        environment.prefix,
        environment.region,
        submit_node(account, cluster, node),
        user or os.environ.get("SLURM_USER") or DEFAULT_USER,
        public_key.identity_file.absolute(),
    )
    authorize_key(connection, public_key, document)
    config = write_ssh_config(connection)
    command = ["ssh", "-F", str(config), environment.prefix]
    _try_out(command, connection)
    say(f"{connection.user} on {connection.node.name} knows the key {public_key.path}")
    say(f"  {' '.join(command)}")
    say(f"  temper train JOB --target hyperpod --env {environment.name}")
    if setup_only or not sys.stdin.isatty():
        return 0
    return subprocess.run(command, check=False).returncode


def _try_out(command: list[str], connection: NodeConnection) -> None:
    """Execute a command on the node.

    Raises:
        LaunchError: ssh cannot.
    """
    done = subprocess.run(
        [*command[:3], "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", command[3], "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise LaunchError(
            f"the key was added, but {connection.user}@{connection.node.name} cannot be reached: "
            f"{reason[0]}. If the private key has a passphrase, add it to the agent: "
            f"ssh-add {connection.identity_file}"
        )


def install_cluster_software(environment: LaunchEnvironment, image: str) -> None:
    """Import the container image, or build the Python environment, on the cluster's Lustre.

    Args:
        environment: Environment of the cluster.
        image: Image to import; empty for the platform's.

    Raises:
        LaunchError: The cluster is on EKS, or cannot be reached, or the installation failed.
    """
    from launch.slurm.software import describe_software, install_software
    from launch.targets import hyperpod
    from launch.targets.slurm import SlurmTarget

    target = hyperpod.from_environment(environment)
    if not isinstance(target, SlurmTarget):
        raise LaunchError("pods pull their image themselves; only a cluster on Slurm needs this")
    if target.cluster.software == "python":
        raise LaunchError(f"SLURM_PYTHON={target.cluster.python} is used; unset it")
    for line in install_software(target.shell, target.cluster, image):
        say(line)
    say(f"jobs of {environment.name} run {describe_software(target.cluster, image)}")
