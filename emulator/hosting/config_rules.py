"""Rules between the fields of an endpoint's configuration, as the documentation states them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from emulator.hosting.context import HostingContext
from emulator.request_validation import (
    check_keys,
    check_network,
    check_role,
    has_local_storage,
    reject,
)

_NOT_EMULATED = (
    *("ServerlessConfig", "InstancePools", "AcceleratorType", "CapacityReservationConfig"),
    *("AcceleratorPartitionLayouts", "CoreDumpConfig"),
)


def check_endpoint_config(request: Mapping[str, Any], context: HostingContext) -> None:
    """Reject a CreateEndpointConfig request that the service would reject.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html

    Args:
        request: Parameters of the request.
        context: Clock, account and containers.
    """
    variants = [*request["ProductionVariants"], *request.get("ShadowProductionVariants", ())]
    names = Counter(variant["VariantName"] for variant in variants)
    if repeated := [name for name, count in names.items() if count > 1]:
        reject(f"Variant names must be unique: {', '.join(repeated)} is used more than once.")
    with_model = ["ModelName" in variant for variant in variants]
    if any(with_model) != all(with_model):
        reject("Either all variants or none must specify ModelName.")
    for variant in variants:
        _check_variant(variant)
    _check_components(request, has_models=all(with_model))
    _check_shadow(request)
    _check_asynchronous(request, len(variants))
    _check_account(request, context)


def _check_variant(variant: Mapping[str, Any]) -> None:
    name = variant["VariantName"]
    for key in _NOT_EMULATED:
        if key in variant:
            reject(f"{key} is not emulated")
    if "InstanceType" not in variant or "InitialInstanceCount" not in variant:
        reject(f"Variant {name} needs InstanceType and InitialInstanceCount.")
    scaling = variant.get("ManagedInstanceScaling")
    if not scaling:
        return
    if "ModelName" in variant:
        reject("ManagedInstanceScaling is only supported for inference component endpoints.")
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariantManagedInstanceScaling.html
    least, most = scaling.get("MinInstanceCount", 1), scaling.get("MaxInstanceCount")
    count = variant["InitialInstanceCount"]
    if most is not None and not least <= count <= most:
        reject(
            f"Variant {name}: InitialInstanceCount {count} must be from MinInstanceCount {least} "
            f"to MaxInstanceCount {most}."
        )


def _check_components(request: Mapping[str, Any], *, has_models: bool) -> None:
    """Reject a configuration that mixes those for models and for inference components.

    https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-deploy-models.html
    """
    if has_models:
        for key in ("ExecutionRoleArn", "VpcConfig", "EnableNetworkIsolation"):
            if key in request:
                reject(f"{key} belongs to the model if the variants specify ModelName.")
        return
    if "ExecutionRoleArn" not in request:
        reject("ExecutionRoleArn is required if the variants specify no ModelName.")
    for key in ("ShadowProductionVariants", "AsyncInferenceConfig"):
        if key in request:
            reject(f"{key} is not supported for endpoints of inference components.")
    if len(request["ProductionVariants"]) > 1:
        reject("An endpoint of inference components has one production variant.")


def _check_shadow(request: Mapping[str, Any]) -> None:
    if "ShadowProductionVariants" not in request:
        return
    if len(request["ProductionVariants"]) > 1 or len(request["ShadowProductionVariants"]) > 1:
        reject("With a shadow variant, there is one production and one shadow variant.")


def _check_asynchronous(request: Mapping[str, Any], variants: int) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html."""
    if "AsyncInferenceConfig" not in request:
        return
    if variants > 1:
        reject("Asynchronous inference supports one production variant.")
    if "S3OutputPath" not in request["AsyncInferenceConfig"]["OutputConfig"]:
        reject("AsyncInferenceConfig.OutputConfig needs S3OutputPath.")


def _check_account(request: Mapping[str, Any], context: HostingContext) -> None:
    variants = [*request["ProductionVariants"], *request.get("ShadowProductionVariants", ())]
    key = request.get("KmsKeyId")
    for variant in variants:
        instance_type = variant["InstanceType"]
        if key and has_local_storage(instance_type, context.client):
            reject(f"KmsKeyId cannot be used with {instance_type}, which has local storage.")
    capture = request.get("DataCaptureConfig", {})
    output = request.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
    check_keys([key, capture.get("KmsKeyId"), output.get("KmsKeyId")], context.client)
    if "ExecutionRoleArn" in request:
        check_role(request["ExecutionRoleArn"], context.client)
    check_network(request.get("VpcConfig"), context.client)
