"""Kubernetes object of a deployment on a HyperPod cluster: `InferenceEndpointConfig`.

AWS's inference operator makes pods, a load balancer and a SageMaker endpoint of it.
https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-model-deployment.html; fields as
in the definition `inferenceendpointconfigs` v1 of the operator's chart, read on 2026-11-29.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import catalog.deployment_tags as tag
from catalog.cpu_instances import cpu_instance
from catalog.instances import instance as described
from deployment.account import DeploymentAccount
from deployment.sagemaker.images import serving_image
from deployment.sagemaker.requests import SETTINGS
from deployment.targets.base import DeploymentRequest, versioned_name
from launch.aws.s3 import S3Uri
from launch.eks.cluster_objects import LABELS

GROUP = "inference.sagemaker.aws.amazon.com"
KIND = f"inferenceendpointconfigs.{GROUP}"
ANNOTATION = "temper"
"""Prefix of the annotations that hold the tags of a deployment."""
START_TIMEOUT_S = 3600
_GPU = "nvidia.com/gpu"
_PORT = 8080
_MODEL_FOLDER = "/opt/ml/model"
_PROBE_PERIOD_S = 10
_CPU_SHARE = 0.8
"""Share of a node that a copy asks for, since the node's own services need some."""


def inference_endpoint(
    account: DeploymentAccount, request: DeploymentRequest, namespace: str
) -> dict[str, Any]:
    """Return the object of a deployment.

    Args:
        account: Account of the deployment.
        request: The deployment.
        namespace: Namespace of the object.
    """
    spec, model = request.spec, request.model
    assert spec.instance is not None, "a check of the target requires it"
    folder = S3Uri.parse(model.folder)
    tags = account.tags | request.tags | {tag.TARGET: spec.to}
    body: dict[str, Any] = {
        # A model of SageMaker cannot be changed, so each version has its own.
        "modelName": versioned_name(account, request),
        "endpointName": account.resource_name(spec.name),
        "instanceType": spec.instance,
        "modelSourceConfig": {
            "modelSourceType": "s3",
            "s3Storage": {"bucketName": folder.bucket, "region": account.environment.region},
            "modelLocation": folder.key.strip("/"),
            # Weights are read once into memory instead of page by page through the mount.
            "prefetchEnabled": True,
        },
        "replicas": spec.first_copies,
        "maxDeployTimeInSeconds": START_TIMEOUT_S,
        "loadBalancer": {
            "healthCheckPath": "/ping",
            "routingAlgorithm": "least_outstanding_requests",
        },
        "metrics": {"enabled": True, "modelMetrics": {"path": "/metrics", "port": _PORT}},
        "tags": [{"name": key, "value": value} for key, value in sorted(tags.items())],
        "worker": _worker(account, request),
    }
    if spec.scaling is not None:
        body["autoScalingSpec"] = _scaling(account, request)
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "InferenceEndpointConfig",
        "metadata": {
            "name": spec.name,
            "namespace": namespace,
            "labels": dict(LABELS),
            "annotations": as_annotations(request.tags),
        },
        "spec": body,
    }


def as_annotations(tags: dict[str, str]) -> dict[str, str]:
    """Return tags as annotations, whose keys have a slash where tags have a colon."""
    return {key.replace(f"{ANNOTATION}:", f"{ANNOTATION}/"): value for key, value in tags.items()}


def tags_of(item: dict[str, Any]) -> dict[str, str]:
    """Return the tags that the annotations of an object hold."""
    found = item["metadata"].get("annotations") or {}
    prefix = f"{ANNOTATION}/"
    return {
        f"{ANNOTATION}:{key.removeprefix(prefix)}": value
        for key, value in found.items()
        if key.startswith(prefix)
    }


def kept_keys(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a specification that an object shows, which a swap keeps.

    Args:
        body: `spec` of the object.
    """
    worker, scaling = body["worker"], body.get("autoScalingSpec")
    variables = {one["name"]: one["value"] for one in worker.get("environmentVariables", ())}
    devices = worker["resources"].get("limits", {}).get(_GPU)
    values: dict[str, Any] = {
        "instance": body.get("instanceType"),
        "copies": body.get("replicas"),
        "devices": int(devices) if devices else None,
        "settings": {
            key.removeprefix(SETTINGS): value
            for key, value in variables.items()
            if key.startswith(SETTINGS) and key != f"{SETTINGS}NAME"
        },
        "scaling": {
            "min": scaling["minReplicaCount"],
            "max": scaling["maxReplicaCount"],
            "concurrent_requests": scaling["cloudWatchTrigger"]["targetValue"],
        }
        if scaling
        else None,
    }
    return {key: value for key, value in values.items() if value}


def _worker(account: DeploymentAccount, request: DeploymentRequest) -> dict[str, Any]:
    spec = request.spec
    assert spec.instance is not None
    resources = _resources(spec.instance, spec.devices)
    variables = {f"{SETTINGS}NAME": spec.name}
    variables |= {f"{SETTINGS}{key}": value for key, value in sorted(spec.settings.items())}
    ping = {"httpGet": {"path": "/ping", "port": _PORT}, "periodSeconds": _PROBE_PERIOD_S}
    return {
        "image": serving_image(account, spec.instance, spec.image),
        "args": ["serve"],
        "modelInvocationPort": {"containerPort": _PORT, "name": "http"},
        "modelVolumeMount": {"name": "model-weights", "mountPath": _MODEL_FOLDER},
        "resources": {"requests": resources, "limits": resources},
        "environmentVariables": [{"name": key, "value": text} for key, text in variables.items()],
        "probes": {
            # Until the weights are loaded, the other probes wait.
            "startupProbe": {**ping, "failureThreshold": START_TIMEOUT_S // _PROBE_PERIOD_S},
            "readinessProbe": {**ping, "failureThreshold": 3},
            "livenessProbe": {**ping, "failureThreshold": 6},
        },
    }


def _resources(instance: str, devices: int | None) -> dict[str, str]:
    """Return what a copy asks for: accelerators, or most of a node without any."""
    accelerated = described(instance)
    if accelerated is not None:
        return {_GPU: str(devices or accelerated.devices)}
    cpu = cpu_instance(instance)
    if cpu is None:
        return {"cpu": "1"}
    return {
        "cpu": f"{int(1000 * _CPU_SHARE * cpu.vcpus)}m",
        "memory": f"{int(1024 * _CPU_SHARE * cpu.memory_gib)}Mi",
    }


def _scaling(account: DeploymentAccount, request: DeploymentRequest) -> dict[str, Any]:
    """Return the scaling of the copies by the requests that are in progress at the endpoint."""
    scaling = request.spec.scaling
    assert scaling is not None
    return {
        "minReplicaCount": scaling.min,
        "maxReplicaCount": scaling.max,
        "cloudWatchTrigger": {
            "name": "concurrent-requests",
            "namespace": "AWS/SageMaker",
            "metricName": "ConcurrentRequestsPerModel",
            "metricStat": "Maximum",
            "metricType": "Average",
            "metricCollectionPeriod": 60,
            "minValue": 0,
            "targetValue": scaling.concurrent_requests,
            "activationTargetValue": 0,
            "dimensions": [
                {"name": "EndpointName", "value": account.resource_name(request.spec.name)},
                {"name": "VariantName", "value": "AllTraffic"},
            ],
        },
    }
