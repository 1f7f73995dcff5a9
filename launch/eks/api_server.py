"""API server of an environment's EKS cluster, and kubectl's configuration for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from launch.aws.platform_parameters import PlatformParameters
from launch.aws.session import AwsSession, explain_aws_errors
from launch.eks.kubectl import Kubectl
from launch.errors import LaunchError
from training.run_folder import write_whole


@dataclass(frozen=True)
class EksEndpoint:
    """API server of an EKS cluster.

    Attributes:
        cluster: Name of the cluster.
        region: Its Region.
        url: URL of the API server.
        certificate_authority: Certificate in base64 that signs the server's.
        public: Whether it can be reached without a tunnel, from the ranges in the settings.
    """

    cluster: str
    region: str
    url: str
    certificate_authority: str
    public: bool

    @property
    def host(self) -> str:
        """Host name of the API server, which its certificate has."""
        return urlsplit(self.url).netloc.partition(":")[0]


def read_endpoint(account: AwsSession, platform: PlatformParameters) -> EksEndpoint:
    """Return the API server of the environment's cluster.

    Raises:
        LaunchError: The environment has no EKS cluster, or it is not active.
    """
    environment = account.environment
    name = platform.get("hyperpod/eks")
    if name is None:
        raise LaunchError(f"the environment {environment.name} has no EKS cluster")
    with explain_aws_errors(f"describing the EKS cluster {name}"):
        cluster = account.client("eks").describe_cluster(name=name)["cluster"]
    if cluster["status"] not in ("ACTIVE", "UPDATING"):
        raise LaunchError(f"the EKS cluster {name} is {cluster['status']}; wait until it is ACTIVE")
    return EksEndpoint(
        name,
        environment.region,
        cluster["endpoint"],
        cluster["certificateAuthority"]["data"],
        bool(cluster["resourcesVpcConfig"].get("endpointPublicAccess")),
    )


def kubeconfig_path(prefix: str) -> Path:
    """Return the configuration file of an environment, apart from the user's own."""
    return Path.home() / ".kube" / f"{prefix}.yaml"


def kubeconfig(endpoint: EksEndpoint, port: int | None) -> dict[str, Any]:
    """Return kubectl's configuration: credentials come from the AWS CLI, none are in the file.

    Args:
        endpoint: The API server.
        port: Local port of the tunnel; None without one.
    """
    name = endpoint.cluster
    server: dict[str, str] = {"server": endpoint.url}
    if port is not None:
        server = {"server": f"https://127.0.0.1:{port}", "tls-server-name": endpoint.host}
    profile = os.environ.get("AWS_PROFILE", "")
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [
            {
                "name": name,
                "cluster": {
                    **server,
                    "certificate-authority-data": endpoint.certificate_authority,
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "users": [
            {
                "name": name,
                "user": {
                    "exec": {
                        "apiVersion": "client.authentication.k8s.io/v1beta1",
                        "command": "aws",
                        "args": [
                            *("--region", endpoint.region, "eks", "get-token"),
                            *("--cluster-name", name, "--output", "json"),
                        ],
                        "env": [{"name": "AWS_PROFILE", "value": profile}] if profile else None,
                        "interactiveMode": "IfAvailable",
                    }
                },
            }
        ],
    }


def write_kubeconfig(prefix: str, endpoint: EksEndpoint, port: int | None) -> Path:
    """Write the configuration, readable by the user only, and return its path.

    Args:
        prefix: Prefix of the environment.
        endpoint: The API server.
        port: Local port of the tunnel; None without one.
    """
    path = kubeconfig_path(prefix)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, yaml.safe_dump(kubeconfig(endpoint, port), sort_keys=False))
    path.chmod(0o600)
    return path


def kubectl_of(account: AwsSession, platform: PlatformParameters, namespace: str = "") -> Kubectl:
    """Return a client of the environment's cluster, after a check that it is that cluster.

    Args:
        account: Session of the account.
        platform: Parameters of the environment.
        namespace: Namespace of the client; empty for several.

    Raises:
        LaunchError: kubectl would talk to another cluster.
    """
    endpoint = read_endpoint(account, platform)
    kubectl = chosen_kubectl(account.environment.prefix, namespace)
    server = kubectl.server()
    if server.lower() != endpoint.host.lower():
        name = account.environment.name
        raise LaunchError(
            f"kubectl is set up for {server or 'no cluster'}, and the cluster of {name} is "
            f"{endpoint.host}. Connect to it: temper connect --env {name}"
        )
    return kubectl


def chosen_kubectl(prefix: str, namespace: str) -> Kubectl:
    """Return the client that EKS_CONTEXT chooses, or that `temper connect` has set up.

    Args:
        prefix: Prefix of the environment.
        namespace: Namespace of the client.
    """
    if context := os.environ.get("EKS_CONTEXT", ""):
        return Kubectl(namespace, context)
    path = kubeconfig_path(prefix)
    return Kubectl(namespace, kubeconfig=str(path) if path.is_file() else "")
