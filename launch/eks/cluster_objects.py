"""Kubernetes objects that a cluster needs before engineers can run jobs on it.

They are applied once by an administrator (`temper cluster-setup`), who has to install HyperPod's
Helm chart anyway. A custom resource of CloudFormation would need a function in the VPC that is
administrator of the cluster for good, so there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from catalog.instances import instance as find_instance
from launch.errors import LaunchError

ENGINEERS = "temper-engineers"
"""Kubernetes group that the platform's access entry gives to the engineer role."""
SERVICE_ACCOUNT = "temper-job"
CLAIM = "fsx-claim"
FIELD_MANAGER = "temper"
_SMALLEST_GIB = 1200
"""Capacity of the smallest file system of FSx for Lustre."""
LABELS = {"app.kubernetes.io/managed-by": "temper"}

# API group, resource and verbs of every request that the launcher sends; `kubectl apply` gets an
# object before it creates or patches it, and so does `kubectl delete`.
PERMISSIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "kubeflow.org",
        "pytorchjobs",
        ("get", "list", "watch", "create", "patch", "update", "delete"),
    ),
    ("", "configmaps", ("get", "list", "create", "patch", "update", "delete")),
    ("", "pods", ("get", "list", "watch")),
    ("", "pods/log", ("get",)),
    ("", "events", ("get", "list", "watch")),
    ("", "persistentvolumeclaims", ("get", "list")),
    # Queues, which show why a job is pending.
    ("kueue.x-k8s.io", "localqueues", ("get", "list")),
    ("kueue.x-k8s.io", "workloads", ("get", "list")),
)


@dataclass(frozen=True)
class LustreVolume:
    """File system that pods mount.

    Attributes:
        file_system: Id of the file system, `fs-…`.
        dns_name: Name under which nodes reach it.
        mount_name: Name with which it is mounted.
        capacity_gib: Its storage capacity.
    """

    file_system: str
    dns_name: str
    mount_name: str
    capacity_gib: int


@dataclass(frozen=True)
class AutoscaledGroup:
    """Instance group to which HyperPod's managed Karpenter adds nodes.

    Attributes:
        name: Name of the instance group.
        instance: Its instance type.
        max_count: Largest number of its nodes.
        idle_minutes: Minutes after which an empty node is removed.
    """

    name: str
    instance: str
    max_count: int
    idle_minutes: int


@dataclass(frozen=True)
class ClusterSetup:
    """Values that the objects depend on.

    Attributes:
        namespaces: Namespaces of jobs.
        teams: Those that belong to a team, which task governance creates.
        volume: Shared file system.
        own_claims: Namespaces whose claim was not created by the set-up.
        autoscaled_groups: Groups that Karpenter scales.
    """

    namespaces: tuple[str, ...]
    teams: frozenset[str]
    volume: LustreVolume
    autoscaled_groups: tuple[AutoscaledGroup, ...] = ()
    own_claims: frozenset[str] = frozenset()


def cluster_objects(setup: ClusterSetup) -> list[dict[str, Any]]:
    """Return the objects in the order in which they are applied."""
    objects: list[dict[str, Any]] = []
    for namespace in setup.namespaces:
        if namespace not in setup.teams:
            objects.append(_object("v1", "Namespace", namespace))
        objects += [
            {
                **_object("v1", "ServiceAccount", SERVICE_ACCOUNT, namespace),
                "automountServiceAccountToken": False,
            },
            _role(namespace),
            _role_binding(namespace),
        ]
        if namespace not in setup.own_claims:
            objects += [_volume(setup.volume, namespace), _claim(setup.volume, namespace)]
    for group in setup.autoscaled_groups:
        objects += [_node_class(group), _node_pool(group)]
    return objects


def volume_name(volume: LustreVolume, namespace: str) -> str:
    """Return the name of a namespace's volume: a volume is bound to one claim for good."""
    return f"{volume.file_system}-{namespace}"


def _object(version: str, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": {**metadata, "labels": dict(LABELS)}}


def _role(namespace: str) -> dict[str, Any]:
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
        for group, resource, verbs in PERMISSIONS
    ]
    return {
        **_object("rbac.authorization.k8s.io/v1", "Role", ENGINEERS, namespace),
        "rules": rules,
    }


def _role_binding(namespace: str) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        **_object("rbac.authorization.k8s.io/v1", "RoleBinding", ENGINEERS, namespace),
        "subjects": [{"kind": "Group", "name": ENGINEERS, "apiGroup": group}],
        "roleRef": {"kind": "Role", "name": ENGINEERS, "apiGroup": group},
    }


def _volume(volume: LustreVolume, namespace: str) -> dict[str, Any]:
    """Return the volume: docs.aws.amazon.com/eks/latest/userguide/fsx-csi.html."""
    return {
        **_object("v1", "PersistentVolume", volume_name(volume, namespace)),
        "spec": {
            "capacity": {"storage": f"{volume.capacity_gib}Gi"},
            "volumeMode": "Filesystem",
            "accessModes": ["ReadWriteMany"],
            "mountOptions": ["flock"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            # Without it, another namespace's claim could be bound to the volume first.
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": CLAIM,
                "namespace": namespace,
            },
            "csi": {
                "driver": "fsx.csi.aws.com",
                "volumeHandle": volume.file_system,
                "volumeAttributes": {
                    "dnsname": volume.dns_name,
                    "mountname": volume.mount_name,
                },
            },
        },
    }


def _claim(volume: LustreVolume, namespace: str) -> dict[str, Any]:
    return {
        **_object("v1", "PersistentVolumeClaim", CLAIM, namespace),
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": volume_name(volume, namespace),
            # Not the capacity: Kubernetes refuses to change this when the file system has grown.
            "resources": {"requests": {"storage": f"{_SMALLEST_GIB}Gi"}},
        },
    }


def _node_class(group: AutoscaledGroup) -> dict[str, Any]:
    """Return the node class of a group.

    docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-eks-autoscaling-nodeclass.html
    """
    return {
        **_object("karpenter.sagemaker.amazonaws.com/v1", "HyperpodNodeClass", group.name.lower()),
        "spec": {"instanceGroups": [group.name]},
    }


def _node_pool(group: AutoscaledGroup) -> dict[str, Any]:
    """Return the node pool of a group.

    docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-eks-autoscaling-nodepool.html
    """
    name = group.name.lower()
    return {
        **_object("karpenter.sh/v1", "NodePool", name),
        "spec": {
            "limits": _limits(group),
            "disruption": {
                # Never move pods off a node to save cost: a training job would start over.
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": f"{group.idle_minutes}m",
            },
            "template": {
                "spec": {
                    "expireAfter": "Never",
                    "nodeClassRef": {
                        "group": "karpenter.sagemaker.amazonaws.com",
                        "kind": "HyperpodNodeClass",
                        "name": name,
                    },
                    "requirements": [
                        {
                            "key": "node.kubernetes.io/instance-type",
                            "operator": "In",
                            "values": [group.instance],
                        }
                    ],
                }
            },
        },
    }


def _limits(group: AutoscaledGroup) -> dict[str, str]:
    """Return the largest amount of the resource that a group is made for.

    Raises:
        LaunchError: The catalog lacks the instance type.
    """
    machine = find_instance(group.instance)
    if machine is None:
        raise LaunchError(
            f"{group.instance} of the group {group.name} is not in the catalog, which has the "
            "number of devices that limits the group. Add it to catalog/instances.yaml"
        )
    if machine.accelerator.kind == "neuron":
        return {"aws.amazon.com/neuron": str(machine.chips * group.max_count)}
    if machine.devices:
        return {"nvidia.com/gpu": str(machine.devices * group.max_count)}
    return {"cpu": str(machine.vcpus * group.max_count)}
