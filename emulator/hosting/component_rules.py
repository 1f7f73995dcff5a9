"""Rules of inference components, and the instances that their copies need.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateInferenceComponent.html
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_InferenceComponentSpecification.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from catalog.instances import instance
from emulator.request_validation import reject

_COMPUTE = "ComputeResourceRequirements"


def check_specification(request: Mapping[str, Any], *, is_update: bool = False) -> None:
    """Reject a request whose specification the service would reject.

    Args:
        request: Parameters of CreateInferenceComponent or UpdateInferenceComponent.
        is_update: Whether the component exists.
    """
    if "Specifications" in request:
        reject("Specifications is not emulated: use Specification")
    if "Specification" not in request:
        if not is_update:
            reject("Specification is required.")
        return
    specification = request["Specification"]
    container = specification.get("Container", {})
    if "BaseInferenceComponentName" in specification:
        _check_adapter(request, specification, container)
        return
    _check_container(specification, container)
    if _COMPUTE not in specification:
        reject(f"{_COMPUTE} is required for a component that is no adapter.")
    for key in () if is_update else ("RuntimeConfig", "VariantName"):
        if key not in request:
            reject(f"{key} is required for a component that is no adapter.")
    compute = specification[_COMPUTE]
    limit = compute.get("MaxMemoryRequiredInMb")
    if limit is not None and limit < compute["MinMemoryRequiredInMb"]:
        reject("MaxMemoryRequiredInMb must be at least MinMemoryRequiredInMb.")


def _check_container(specification: Mapping[str, Any], container: Mapping[str, Any]) -> None:
    if ("ModelName" in specification) == bool(container):
        reject("Exactly one of ModelName and Container must be specified.")
    if container and "Image" not in container:
        reject("Container.Image is required for a component that is no adapter.")


def _check_adapter(
    request: Mapping[str, Any], specification: Mapping[str, Any], container: Mapping[str, Any]
) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-adapt.html."""
    for key in (_COMPUTE, "ModelName", "StartupParameters"):
        if key in specification:
            reject(f"{key} cannot be specified for an adapter inference component.")
    if "RuntimeConfig" in request:
        reject("RuntimeConfig cannot be specified for an adapter inference component.")
    if set(container) != {"ArtifactUrl"}:
        reject("The Container of an adapter inference component has ArtifactUrl, and only that.")


def instances_for(components: list[tuple[Mapping[str, Any], int]], instance_type: str) -> int:
    """Return the number of instances that the copies of components need.

    Each copy fits in one instance. Copies are placed by accelerators and by memory.

    Args:
        components: Compute requirements and number of copies of each component.
        instance_type: Type of the instances.
    """
    machine = instance(instance_type)
    devices = memory = 0.0
    for compute, copies in components:
        devices += copies * compute.get("NumberOfAcceleratorDevicesRequired", 0)
        memory += copies * compute["MinMemoryRequiredInMb"]
    if machine is None:
        return 1 if memory else 0
    per_instance = (machine.devices, machine.memory_gib * 1024)
    needed = [memory / per_instance[1], devices / per_instance[0] if per_instance[0] else 0.0]
    return math.ceil(max(needed))


def check_fits(compute: Mapping[str, Any], instance_type: str) -> None:
    """Reject a copy that is larger than an instance."""
    machine = instance(instance_type)
    if machine is None:
        return
    devices = compute.get("NumberOfAcceleratorDevicesRequired", 0)
    if devices > machine.devices:
        reject(f"{devices:g} accelerator devices are required, {instance_type} has fewer.")
    if compute["MinMemoryRequiredInMb"] > machine.memory_gib * 1024:
        reject(f"{compute['MinMemoryRequiredInMb']} MB are required, {instance_type} has less.")
