"""Emulated HyperPod cluster on EKS: what the account says of it, its API server, its operator."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import yaml

from deployment.hyperpod.manifest import GROUP
from emulator.kubernetes.api_server import CustomResource, KubernetesApiServer
from emulator.kubernetes.inference_operator import InferenceOperator
from emulator.kubernetes.inference_schema import schema_problems
from emulator.kubernetes.objects import CustomObjects
from emulator.moto_account import ACCOUNT

if TYPE_CHECKING:
    from emulator.environment import EmulatedEnvironment

NAMESPACE = "hyperpod-ns-rehearsal"
RESOURCE = CustomResource(GROUP, "v1", "InferenceEndpointConfig", "inferenceendpointconfigs")


@dataclass(frozen=True)
class EmulatedCluster:
    """Cluster.

    Attributes:
        objects: Deployments on it.
        operator: Its inference operator.
        variables: Environment variables by which kubectl finds it.
    """

    objects: CustomObjects
    operator: InferenceOperator
    variables: dict[str, str]


def why_no_cluster() -> str:
    """Return why no cluster can be used on this machine; empty if one can."""
    return "" if shutil.which("kubectl") else "kubectl is not installed"


@contextmanager
def emulated_cluster(environment: EmulatedEnvironment, instance: str) -> Iterator[EmulatedCluster]:
    """Create the cluster of an environment, and publish it as the platform does.

    Args:
        environment: Emulated environment.
        instance: Instance type of its nodes.
    """
    clock, service = environment.clock, environment.service

    def now() -> str:
        return datetime.fromtimestamp(clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def role() -> str:
        name = f"/{environment.environment.prefix}/roles/serving"
        return str(service.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])

    objects = CustomObjects(schema_problems, now)
    operator = InferenceOperator(objects, service.call, clock, role)
    host = _create(environment, instance)
    with KubernetesApiServer(RESOURCE, objects) as server:
        kubeconfig = environment.work / "kubeconfig.yaml"
        name = write_kubeconfig(kubeconfig, server.url, host)
        variables = {
            "KUBECONFIG": str(kubeconfig),
            "KUBECACHEDIR": str(environment.work / "kube-cache"),
            "EKS_CONTEXT": name,
        }
        yield EmulatedCluster(objects, operator, variables)


def _create(environment: EmulatedEnvironment, instance: str) -> str:
    """Create the cluster in the account, and return the host name of its API server."""
    client, prefix = environment.service.client, environment.environment.prefix
    role = f"arn:aws:iam::{ACCOUNT}:role/{prefix}-cluster"
    eks, nodes = f"{prefix}-eks", f"{prefix}-cluster"
    subnets = client("ec2").describe_subnets()["Subnets"][:2]
    network = {"subnetIds": [subnet["SubnetId"] for subnet in subnets]}
    cluster = client("eks").create_cluster(name=eks, roleArn=role, resourcesVpcConfig=network)
    group = {
        "InstanceGroupName": "serving",
        "InstanceType": instance,
        "InstanceCount": 1,
        "ExecutionRole": role,
        "LifeCycleConfig": {"SourceS3Uri": f"s3://sagemaker-{prefix}", "OnCreate": "setup.sh"},
        "ThreadsPerCore": 1,  # optional in the API, required by moto
    }
    orchestrator = {"Eks": {"ClusterArn": cluster["cluster"]["arn"]}}
    client("sagemaker").create_cluster(
        ClusterName=nodes, InstanceGroups=[group], Orchestrator=orchestrator
    )
    published = {
        "hyperpod/eks": eks,
        "hyperpod/cluster": nodes,
        "hyperpod/namespaces": NAMESPACE,
    }
    for name, value in published.items():
        client("ssm").put_parameter(
            Name=f"/{prefix}/{name}", Value=value, Type="String", Overwrite=True
        )
    return str(urlsplit(cluster["cluster"]["endpoint"]).netloc)


def write_kubeconfig(path: Path, url: str, host: str) -> str:
    """Write kubectl's configuration, and return the name of its context.

    Args:
        path: The file.
        url: URL of the API server.
        host: Name of the API server in the account.
    """
    name = "emulated"
    # kubectl sends plain HTTP to this URL; the launcher compares the name.
    cluster = {"server": url, "tls-server-name": host}
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "users": [{"name": name, "user": {}}],
    }
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    return name
