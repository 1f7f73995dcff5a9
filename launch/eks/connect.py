"""Connection to the API server of the environment's EKS cluster: configuration and tunnel.

The API server is private unless the settings name address ranges. From anywhere else the connection
goes through a node of the cluster, by Session Manager's port forwarding:
https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-sessions-start.html
kubectl still verifies the certificate of the API server, whose name is `tls-server-name`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import suppress

from launch.aws.hyperpod_nodes import ClusterNode, describe_cluster, list_nodes
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.session import AwsSession
from launch.eks.api_server import EksEndpoint, read_endpoint, write_kubeconfig
from launch.errors import LaunchError
from training.console import say

DOCUMENT = "AWS-StartPortForwardingSessionToRemoteHost"
NO_TUNNEL = "none"
DEFAULT_PORT = 16443
"""Local port of the tunnel."""
_PROGRAMS = {
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "aws": "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
    "session-manager-plugin": (
        "https://docs.aws.amazon.com/systems-manager/latest/userguide/"
        "session-manager-working-with-install-plugin.html"
    ),
}


def connect_to_eks(
    account: AwsSession,
    platform: PlatformParameters,
    *,
    node: str = "",
    setup_only: bool = False,
) -> int:
    """Write kubectl's configuration and hold the tunnel open until Ctrl-C.

    Args:
        account: Session of the account.
        platform: Parameters of the environment.
        node: Group or instance id of the node that the tunnel goes through; empty for any, or for
            no tunnel if the API server is public; `none` for no tunnel.
        setup_only: Write the configuration, and print the command that opens the tunnel.

    Raises:
        LaunchError: A program is missing, or the session ended with an error.
    """
    endpoint = read_endpoint(account, platform)
    direct = node == NO_TUNNEL or (endpoint.public and not node)
    require_programs(tunnel=not direct)
    port = int(os.environ.get("EKS_PORT", DEFAULT_PORT))
    target = "" if direct else running_node(account, platform, node).session_target
    path = write_kubeconfig(account.environment.prefix, endpoint, None if direct else port)
    say(f"kubectl's configuration is {path}; temper uses it, and kubectl with")
    say(f"  export KUBECONFIG={path}")
    if direct:
        return 0
    command = tunnel_command(endpoint, target, port)
    if setup_only:
        say("the tunnel is opened by")
        say(f"  {' '.join(command)}")
        return 0
    say(f"tunnel to {endpoint.host} through {target}; leave it open, Ctrl-C closes it")
    with suppress(KeyboardInterrupt):
        if code := subprocess.run(command, check=False).returncode:
            raise LaunchError(
                f"the session through {target} ended with code {code}. If it was refused, use the "
                "environment's engineer role; if the port is in use, choose another: EKS_PORT=…"
            )
    return 0


def running_node(account: AwsSession, platform: PlatformParameters, wanted: str) -> ClusterNode:
    """Return a running node of the cluster.

    Args:
        account: Session of the account.
        platform: Parameters of the environment.
        wanted: Group or instance id; empty for any.

    Raises:
        LaunchError: The cluster has no node yet, or no such node is running.
    """
    name = account.environment.name
    if platform.get("hyperpod/cluster") is None:
        raise LaunchError(
            f"the cluster of {name} has no node yet, so no tunnel can be opened. Before the first "
            "node, work from inside the VPC with --node none, or set "
            "hyperpod.eks.public_access_cidrs"
        )
    nodes = list_nodes(account, describe_cluster(account, platform))
    matching = [node for node in nodes if wanted in ("", node.group, node.instance_id)]
    for node in matching:
        if node.status == "Running":
            return node
    if nodes and not matching:
        groups = ", ".join(sorted({node.group for node in nodes}))
        raise LaunchError(
            f"--node {wanted}: no group and no instance of the cluster; its groups are {groups}"
        )
    states = ", ".join(f"{node.name} is {node.status}" for node in matching) or "it has none"
    raise LaunchError(f"no node of the cluster of {name} is running ({states})")


def require_programs(*, tunnel: bool) -> None:
    """Raise unless the programs that a connection needs are installed.

    Raises:
        LaunchError: Names every missing program and where to get it.
    """
    needed = _PROGRAMS if tunnel else {name: _PROGRAMS[name] for name in ("kubectl", "aws")}
    missing = [f"{name} ({page})" for name, page in needed.items() if not shutil.which(name)]
    if missing:
        raise LaunchError(f"not installed on this machine: {', '.join(missing)}")


def tunnel_command(endpoint: EksEndpoint, target: str, port: int) -> list[str]:
    """Return the command that forwards a local port to the API server through a node.

    Args:
        endpoint: The API server.
        target: Session Manager's target of the node.
        port: Local port.
    """
    parameters = {
        "host": [endpoint.host],
        "portNumber": ["443"],
        "localPortNumber": [str(port)],
    }
    return [
        *("aws", "ssm", "start-session", "--region", endpoint.region, "--target", target),
        *("--document-name", DOCUMENT, "--parameters", json.dumps(parameters)),
    ]
