"""Requests that make an endpoint for inference components, and the components on it.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateInferenceComponent.html
"""

from __future__ import annotations

from typing import Any

from catalog.cpu_instances import cpu_instance
from catalog.instances import instance as described
from deployment.account import DeploymentAccount
from deployment.record import tag_list
from deployment.sagemaker.requests import (
    STARTUP_S,
    VARIANT,
    encryption,
    instance_variant,
    named,
    network,
)
from deployment.spec import Rollout
from deployment.targets.base import DeploymentRequest

_MIB = 2.0**20
_LEAST_MIB = 1024
_HOST_SHARE = 0.8
"""Part of an instance's memory that a copy may ask for; the rest is for the host."""
_FILE_SHARE = 1.25
_LEAST_BATCH = 5


def component_config_request(
    account: DeploymentAccount, request: DeploymentRequest
) -> dict[str, Any]:
    """Return the request CreateEndpointConfig for an endpoint without models of its own.

    Args:
        account: Account of the deployment.
        request: The deployment.
    """
    spec = request.spec
    least, most = spec.copy_limits
    variant = {
        **instance_variant(request),
        "InitialInstanceCount": 1,
        "ManagedInstanceScaling": {
            "Status": "ENABLED",
            "MinInstanceCount": min(least, 1),
            "MaxInstanceCount": most,
        },
        "ContainerStartupHealthCheckTimeoutInSeconds": STARTUP_S,
        "ModelDataDownloadTimeoutInSeconds": STARTUP_S,
    }
    content = {
        "ProductionVariants": [variant],
        "ExecutionRoleArn": account.platform["roles/serving"],
        "EnableNetworkIsolation": True,
        "VpcConfig": network(account),
        **encryption(account, request),
    }
    return named(account, request, "EndpointConfigName", content, of_version=False)


def component_request(
    account: DeploymentAccount, request: DeploymentRequest, specification: dict[str, Any]
) -> dict[str, Any]:
    """Return the request CreateInferenceComponent.

    Args:
        account: Account of the deployment.
        request: The deployment.
        specification: Its specification.
    """
    spec = request.spec
    content = {
        "InferenceComponentName": account.resource_name(spec.name),
        "EndpointName": account.resource_name(spec.adapter_of or spec.name),
        "Specification": specification,
        "Tags": tag_list({**account.tags, **request.tags}),
    }
    if spec.adapter_of is None:
        content["VariantName"] = VARIANT
        content["RuntimeConfig"] = {"CopyCount": spec.first_copies}
    return content


def model_specification(request: DeploymentRequest, model_name: str) -> dict[str, Any]:
    """Return the specification of the copies of a model.

    Args:
        request: The deployment.
        model_name: Name of the model.
    """
    instance = request.spec.instance
    assert instance is not None
    machine = described(instance)
    devices = request.spec.devices
    if devices is None:
        devices = machine.chips if machine else 0
    host_gib = machine.memory_gib if machine else _cpu_memory_gib(instance)
    memory = max(_LEAST_MIB, int(_FILE_SHARE * request.model.size_bytes / _MIB))
    if host_gib is not None:
        memory = min(memory, int(_HOST_SHARE * host_gib * 1024))
    compute: dict[str, Any] = {"MinMemoryRequiredInMb": memory}
    if devices:
        compute["NumberOfAcceleratorDevicesRequired"] = devices
    return {
        "ModelName": model_name,
        "ComputeResourceRequirements": compute,
        "StartupParameters": {
            "ContainerStartupHealthCheckTimeoutInSeconds": STARTUP_S,
            "ModelDataDownloadTimeoutInSeconds": STARTUP_S,
        },
    }


def adapter_specification(base: str, archive: str) -> dict[str, Any]:
    """Return the specification of an adapter.

    Args:
        base: Name of the component of its base.
        archive: Address of its archive.
    """
    return {"BaseInferenceComponentName": base, "Container": {"ArtifactUrl": archive}}


def rolling_update(rollout: Rollout, alarms: tuple[str, ...]) -> dict[str, Any]:
    """Return how copies are replaced in batches, and the alarms that restore those before.

    Args:
        rollout: The shift.
        alarms: Names of the alarms.
    """
    percent = 50 if rollout.kind == "all-at-once" else round(rollout.size * 100)
    return {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": max(_LEAST_BATCH, percent)},
            "WaitIntervalInSeconds": int(rollout.wait),
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm} for alarm in alarms]},
    }


def _cpu_memory_gib(instance: str) -> float | None:
    found = cpu_instance(instance)
    return None if found is None else found.memory_gib
