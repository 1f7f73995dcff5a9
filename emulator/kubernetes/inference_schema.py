"""Definition of `InferenceEndpointConfig` v1, the custom resource of AWS's inference operator.

Fields that deployments use, as in the definition `inferenceendpointconfigs` of the chart in
https://github.com/aws/sagemaker-hyperpod-cli, read on 2026-11-29.
"""

from __future__ import annotations

import re
from typing import Any

_NAME = r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$"
_PORT = {"containerPort!": int, "name": r"^http$|^grpc$"}
_PROBE = {"httpGet": dict, "periodSeconds": int, "failureThreshold": int}
_TRIGGER = {
    "name": str,
    "namespace": str,
    "metricName": str,
    "metricStat": str,
    "metricType": r"^(Value|Average)$",
    "metricCollectionPeriod": int,
    "minValue": float,
    "targetValue": float,
    "activationTargetValue": float,
    "dimensions": list,
}
SPEC: dict[str, Any] = {
    "modelName!": _NAME,
    "endpointName": _NAME,
    "instanceType": r"^ml\..*",
    "modelSourceConfig!": {
        "modelSourceType!": r"^(fsx|s3|huggingface|kubernetesVolume)$",
        "s3Storage": {"bucketName!": str, "region!": str},
        "modelLocation": str,
        "prefetchEnabled": bool,
    },
    "replicas": int,
    "maxDeployTimeInSeconds": int,
    "loadBalancer": {
        "healthCheckPath": r"^/.*",
        "routingAlgorithm": r"^(least_outstanding_requests|round_robin)$",
    },
    "metrics": {"enabled": bool, "modelMetrics": {"path": r"^/[\w\-./]*$", "port": int}},
    "tags": list,
    "autoScalingSpec": {
        "minReplicaCount": int,
        "maxReplicaCount": int,
        "cloudWatchTrigger": _TRIGGER,
    },
    "worker!": {
        "image!": str,
        "args": list,
        "modelInvocationPort!": _PORT,
        "modelVolumeMount!": {"name!": str, "mountPath": str},
        "resources!": {"requests": dict, "limits": dict},
        "environmentVariables": list,
        "probes": {"startupProbe": _PROBE, "readinessProbe": _PROBE, "livenessProbe": _PROBE},
    },
}
"""Fields of `InferenceEndpointConfig` v1 that deployments use; `!` marks those it requires."""


def schema_problems(value: Any, schema: Any = SPEC, path: str = "spec") -> list[str]:
    """Return what the definition of the object refuses.

    Args:
        value: Part of the object.
        schema: Definition of the part.
        path: Path of the part.
    """
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{path} is no object"]
        fields = {key.rstrip("!"): inner for key, inner in schema.items()}
        found = [f"{path}.{key} is unknown" for key in set(value) - set(fields)]
        found += [
            f"{path}.{key[:-1]} is missing"
            for key in schema
            if key.endswith("!") and key[:-1] not in value
        ]
        for key in set(value) & set(fields):
            found += schema_problems(value[key], fields[key], f"{path}.{key}")
        return found
    if isinstance(schema, str):
        return [] if isinstance(value, str) and re.search(schema, value) else [f"{path}: {value!r}"]
    numbers = (int, float) if schema is float else schema
    return [] if isinstance(value, numbers) else [f"{path}: {value!r} is no {schema.__name__}"]
