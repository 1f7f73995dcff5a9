"""Kubernetes manifests of one attempt of a run, as a pure function of the run and the cluster.

A ConfigMap contains the job file; a PyTorchJob of Kubeflow's training operator, which HyperPod's
job auto-resume supports, runs our container on every node.
https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-eks-resiliency-auto-resume.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from catalog.instances import Instance
from catalog.instances import instance as find_instance
from launch.aws.tags import tag_value
from launch.errors import LaunchError
from training.config.runtime import Resources

JOB_FOLDER = "/temper/job"
JOB_FILE = "job.yaml"
SHARED = "/fsx"
DATA = f"{SHARED}/data"
"""Mount of the data bucket, which the platform links with the file system in both directions."""
SAVE_S = 120
"""Seconds between SIGTERM and SIGKILL, in which a pod saves its checkpoint."""

_HEALTH = "sagemaker.amazonaws.com"
_RETRIES = 2
_NAME_LIMIT = 50
_HUGE_PAGES = "5120Mi"
"""Memory that libfabric's EFA provider maps for its buffers."""
_SHARED_MEMORY_FRACTION = 0.25


@dataclass(frozen=True)
class KubernetesSettings:
    """Names of the objects that jobs use on a Kubernetes cluster.

    Attributes:
        namespace: Namespace of the jobs.
        claim: Volume claim of the shared file system, which every pod mounts at `/fsx`.
        service_account: Service account of the pods.
        queue: Queue of Kueue that admits the job; empty for the job's `resources.partition`.
        metric_namespace: CloudWatch namespace of the run's metrics; empty to publish none.
        region: Region of that namespace.
    """

    namespace: str = "kubeflow"
    claim: str = "fsx-claim"
    service_account: str = "default"
    queue: str = ""
    metric_namespace: str = ""
    region: str = ""


@dataclass(frozen=True)
class PodSpec:
    """Settings of the pods of one attempt.

    Attributes:
        name: Name of the PyTorchJob, unique in its namespace.
        run: `<name>/<run id>`.
        job: Text of the job file, with paths as the pods see them.
        image: Image of the container.
        environment: Further environment variables of the container.
        creator: Login name of the person who submits it; empty if unknown.
    """

    name: str
    run: str
    job: str
    image: str
    environment: Mapping[str, str] = field(default_factory=dict)
    creator: str = ""


def manifests(
    spec: PodSpec, resources: Resources, cluster: KubernetesSettings
) -> list[dict[str, Any]]:
    """Return the manifests of an attempt in the order in which they are applied.

    Args:
        spec: Settings of the pods.
        resources: Machines that the job requests.
        cluster: Names of the cluster's objects.

    Raises:
        LaunchError: The catalog lacks the instance type, so its device count is unknown.
    """
    assert resources.instance is not None, "checked before"
    machine = find_instance(resources.instance)
    if machine is None:
        raise LaunchError(
            f"resources.instance: {resources.instance} is not in the catalog, which has the "
            "number of devices that a pod must request. Add it to catalog/instances.yaml"
        )
    name, run_id = spec.run.split("/")
    labels = {"app.kubernetes.io/managed-by": "temper", "temper/job": name, "temper/run": run_id}
    job_file = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": spec.name, "namespace": cluster.namespace, "labels": labels},
        "data": {JOB_FILE: spec.job},
    }
    queue_name = cluster.queue or resources.partition
    queue = {"kueue.x-k8s.io/queue-name": queue_name} if queue_name else {}
    job = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {
            "name": spec.name,
            "namespace": cluster.namespace,
            "labels": {**labels, **queue},
            "annotations": {
                **({"temper/creator": spec.creator} if spec.creator else {}),
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
                        # An autoscaler must not move a training process to save a node.
                        "metadata": {
                            "labels": labels,
                            "annotations": {"karpenter.sh/do-not-disrupt": "true"},
                        },
                        "spec": _pod(spec, resources, machine, cluster),
                    },
                }
            },
        },
    }
    return [job_file, job]


def object_name(attempt: str) -> str:
    """Return the Kubernetes name of an attempt: lower case, with room for `-worker-99999`.

    The end of the name makes it unique, so a long name loses its beginning.
    """
    name = attempt.lower()[-_NAME_LIMIT:].lstrip("-")
    return name if name[0].isalpha() else f"t-{name[2 - _NAME_LIMIT :].lstrip('-')}"


def to_yaml(documents: list[dict[str, Any]]) -> str:
    """Return manifests as the YAML that `kubectl apply -f -` reads."""
    return str(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=100))


def _metric_variables(spec: PodSpec, cluster: KubernetesSettings) -> dict[str, str]:
    """Return the variables by which a run publishes its metrics, as its alarms read them."""
    if not cluster.metric_namespace:
        return {}
    return {
        "TEMPER_METRICS_NAMESPACE": cluster.metric_namespace,
        "TEMPER_METRICS_JOB": spec.name,
        **({"TEMPER_METRICS_CREATOR": tag_value(spec.creator)} if spec.creator else {}),
        "AWS_REGION": cluster.region,
    }


def _pod(
    spec: PodSpec, resources: Resources, machine: Instance, cluster: KubernetesSettings
) -> dict[str, Any]:
    """Return the pod of one healthy node, with all devices and the shared file system."""
    variables = {
        "TEMPER_JOB": f"{JOB_FOLDER}/{JOB_FILE}",
        "TEMPER_RUN_FOLDER": f"{DATA}/runs/{spec.run}",
        **_metric_variables(spec, cluster),
        **spec.environment,
    }
    devices = _devices(machine, several=resources.count > 1)
    container: dict[str, Any] = {
        # The operator finds the container it configures by this name.
        "name": "pytorch",
        "image": spec.image,
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
    shm_gib = int(machine.memory_gib * _SHARED_MEMORY_FRACTION)
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
            {"name": "job", "configMap": {"name": spec.name}},
            {"name": "shared", "persistentVolumeClaim": {"claimName": cluster.claim}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shm_gib}Gi"}},
        ],
    }


def _devices(machine: Instance, *, several: bool) -> dict[str, str]:
    """Return all devices of a node, with network adapters only for a job of several nodes."""
    if machine.accelerator.kind == "neuron":
        devices = {"aws.amazon.com/neuron": str(machine.chips)}
    else:
        devices = {"nvidia.com/gpu": str(machine.devices)}
    if several and machine.efa:
        devices |= {"vpc.amazonaws.com/efa": str(machine.efa), "hugepages-2Mi": _HUGE_PAGES}
        # Kubernetes grants huge pages only to pods that also request ordinary memory.
        devices |= {"memory": f"{int(machine.memory_gib * 0.8)}Gi"}
    return devices
