"""The manifests of one attempt of a run, as a pure function of the run and the cluster.

A ConfigMap carries the job file; a PyTorchJob of Kubeflow's training operator, which HyperPod's
job auto-resume understands, runs our container on every node.
https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-eks-resiliency-auto-resume.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from catalog.instances import Instance
from catalog.instances import instance as catalogued
from launch.errors import LaunchError
from training.config.runtime import Resources

JOB_FOLDER = "/temper/job"
JOB_FILE = "job.yaml"
SHARED = "/fsx"
DATA = f"{SHARED}/data"
"""The data bucket, which the platform links with the file system in both directions."""
SAVE_S = 120
"""How long a pod that is told to end may take to save."""

_HEALTH = "sagemaker.amazonaws.com"
_RETRIES = 2
_NAME_LIMIT = 50
_HUGE_PAGES = "5120Mi"
"""What libfabric's EFA provider maps for its buffers."""
_SHARED_MEMORY_PART = 0.25


@dataclass(frozen=True)
class KubernetesSettings:
    """What a job must know of a cluster.

    Attributes:
        namespace: Where jobs are made.
        claim: The volume claim of the shared file system, which stands at `/fsx` in every pod.
        service_account: Whose permissions pods have.
    """

    namespace: str = "kubeflow"
    claim: str = "fsx-claim"
    service_account: str = "default"


@dataclass(frozen=True)
class PodSpec:
    """What the pods of one attempt are to do.

    Attributes:
        name: Of the job, unique in its namespace.
        run: `<name>/<run id>`.
        job: The job file, with every file named as pods see it.
        image: Of the container.
        environment: Its variables.
    """

    name: str
    run: str
    job: str
    image: str
    environment: Mapping[str, str] = field(default_factory=dict)


def manifests(
    order: PodSpec, resources: Resources, cluster: KubernetesSettings
) -> list[dict[str, Any]]:
    """Return what is applied, in order.

    Raises:
        LaunchError: The instance type is not in the catalogue, so its devices are not known.
    """
    assert resources.instance is not None, "checked before"
    machine = catalogued(resources.instance)
    if machine is None:
        raise LaunchError(
            f"resources.instance: {resources.instance} is not in the catalogue, which says how "
            "many devices a pod must ask for. Add it to catalog/instances.yaml"
        )
    name, run_id = order.run.split("/")
    labels = {"app.kubernetes.io/managed-by": "temper", "temper/job": name, "temper/run": run_id}
    job_file = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": order.name, "namespace": cluster.namespace, "labels": labels},
        "data": {JOB_FILE: order.job},
    }
    queue = {"kueue.x-k8s.io/queue-name": resources.partition} if resources.partition else {}
    job = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {
            "name": order.name,
            "namespace": cluster.namespace,
            "labels": {**labels, **queue},
            "annotations": {
                f"{_HEALTH}/enable-job-auto-resume": "true",
                f"{_HEALTH}/job-max-retry-count": str(resources.retries or _RETRIES),
            },
        },
        "spec": {
            "runPolicy": {
                "cleanPodPolicy": "Running",
                "backoffLimit": resources.retries or _RETRIES,
                "suspend": False,
                **(
                    {"activeDeadlineSeconds": int(resources.max_runtime)}
                    if resources.max_runtime
                    else {}
                ),
            },
            "pytorchReplicaSpecs": {
                "Worker": {
                    "replicas": resources.count,
                    "restartPolicy": "OnFailure",
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": _pod(order, resources, machine, cluster),
                    },
                }
            },
        },
    }
    return [job_file, job]


def object_name(attempt: str) -> str:
    """Return what an attempt is called in Kubernetes: lower case, and room for `-worker-99999`.

    The end of the name is what makes it unique, so it is the beginning that is cut.
    """
    name = attempt.lower()[-_NAME_LIMIT:].lstrip("-")
    return name if name[0].isalpha() else f"t-{name[2 - _NAME_LIMIT :].lstrip('-')}"


def to_yaml(documents: list[dict[str, Any]]) -> str:
    """Return manifests as `kubectl apply -f -` reads them."""
    return str(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=100))


def _pod(
    order: PodSpec, resources: Resources, machine: Instance, cluster: KubernetesSettings
) -> dict[str, Any]:
    """Return the pod of one node: healthy, with all of its devices, and the shared file system."""
    variables = {
        "TEMPER_JOB": f"{JOB_FOLDER}/{JOB_FILE}",
        "TEMPER_RUN_FOLDER": f"{DATA}/runs/{order.run}",
        **order.environment,
    }
    devices = _devices(machine, several=resources.count > 1)
    container: dict[str, Any] = {
        # The operator finds the container it configures by this name.
        "name": "pytorch",
        "image": order.image,
        "args": ["train"],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "resources": {"requests": dict(devices), "limits": dict(devices)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            # EFA registers memory, which must be locked; nothing else is needed.
            "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]},
        },
        "volumeMounts": [
            {"name": "job", "mountPath": JOB_FOLDER, "readOnly": True},
            {"name": "shared", "mountPath": SHARED},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    shm_gib = int(machine.memory_gib * _SHARED_MEMORY_PART)
    return {
        "serviceAccountName": cluster.service_account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": SAVE_S,
        "nodeSelector": {
            f"{_HEALTH}/node-health-status": "Schedulable",
            "node.kubernetes.io/instance-type": resources.instance,
        },
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "preference": {
                            "matchExpressions": [
                                {
                                    "key": f"{_HEALTH}/deep-health-check-status",
                                    "operator": "In",
                                    "values": ["Passed"],
                                }
                            ]
                        },
                    }
                ]
            }
        },
        "containers": [container],
        "volumes": [
            {"name": "job", "configMap": {"name": order.name}},
            {"name": "shared", "persistentVolumeClaim": {"claimName": cluster.claim}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shm_gib}Gi"}},
        ],
    }


def _devices(machine: Instance, *, several: bool) -> dict[str, str]:
    """Return the devices of a whole node; network adapters only where nodes talk to each other."""
    if machine.accelerator.kind == "neuron":
        found = {"aws.amazon.com/neuron": str(machine.chips)}
    else:
        found = {"nvidia.com/gpu": str(machine.devices)}
    if several and machine.efa:
        found |= {"vpc.amazonaws.com/efa": str(machine.efa), "hugepages-2Mi": _HUGE_PAGES}
        # Pages of this kind are only given to pods that say how much ordinary memory they take.
        found |= {"memory": f"{int(machine.memory_gib * 0.8)}Gi"}
    return found
