"""Requests that make a model, an endpoint's configuration and an endpoint.

Names of models and configurations end in a digest of their content: the same request has the same
name, so that a repeated command finds what an interrupted one made.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from catalog.instances import has_local_disk
from deployment.account import DeploymentAccount
from deployment.record import tag_list
from deployment.sagemaker.images import inference_ami, serving_image
from deployment.spec import Rollout
from deployment.targets.base import DeploymentRequest

VARIANT = "main"
DIGEST_LENGTH = 10
"""Characters of the digest at the end of a name."""
SETTINGS = "TEMPER_SERVE_"
FILES = "serving"
"""Folder of captured calls and of asynchronous and batch inference in the bucket of runs."""
# Loading weights from S3 and into a GPU takes longer than the defaults.
STARTUP_S = 1800
_ROUTING = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}


def model_request(account: DeploymentAccount, request: DeploymentRequest) -> dict[str, Any]:
    """Return the request CreateModel for a version.

    Args:
        account: Account of the deployment.
        request: The deployment.
    """
    spec, model, platform = request.spec, request.model, account.platform
    assert spec.instance is not None, "a check of the target requires it"
    source = {"S3Uri": model.folder, "S3DataType": "S3Prefix", "CompressionType": "None"}
    variables = {f"{SETTINGS}{key}": value for key, value in spec.settings.items()}
    content = {
        "ExecutionRoleArn": platform["roles/serving"],
        "EnableNetworkIsolation": True,
        "VpcConfig": network(account),
        "PrimaryContainer": {
            "Image": serving_image(account, spec.instance, spec.image),
            "Environment": {f"{SETTINGS}NAME": spec.name, **variables},
            "ModelDataSource": {"S3DataSource": source},
        },
    }
    return named(account, request, "ModelName", content)


def config_request(
    account: DeploymentAccount, request: DeploymentRequest, model_name: str, **more: Any
) -> dict[str, Any]:
    """Return the request CreateEndpointConfig for an endpoint of one model.

    Args:
        account: Account of the deployment.
        request: The deployment.
        model_name: Name of the model.
        more: Further members.
    """
    spec = request.spec
    variant = {
        **instance_variant(request),
        "ModelName": model_name,
        "InitialVariantWeight": 1.0,
        "InitialInstanceCount": spec.first_copies,
        "ContainerStartupHealthCheckTimeoutInSeconds": STARTUP_S,
        "ModelDataDownloadTimeoutInSeconds": STARTUP_S,
    }
    content: dict[str, Any] = {
        "ProductionVariants": [variant],
        **encryption(account, request),
        **more,
    }
    if spec.capture is not None:
        content["DataCaptureConfig"] = _capture(account, request)
    return named(account, request, "EndpointConfigName", content)


def instance_variant(request: DeploymentRequest) -> dict[str, Any]:
    """Return the members of a production variant that name its instances."""
    spec = request.spec
    assert spec.instance is not None, "a check of the target requires it"
    ami = spec.ami or inference_ami(spec.image, spec.instance)
    return {
        "VariantName": VARIANT,
        "InstanceType": spec.instance,
        "RoutingConfig": _ROUTING,
        **({"InferenceAmiVersion": ami} if ami else {}),
    }


def encryption(account: DeploymentAccount, request: DeploymentRequest) -> dict[str, str]:
    """Return the key of the volumes; instances with local disks encrypt those in hardware."""
    assert request.spec.instance is not None
    if has_local_disk(request.spec.instance):
        return {}
    return {"KmsKeyId": account.platform["keys/data"]}


def network(account: DeploymentAccount) -> dict[str, list[str]]:
    """Return the private subnets and the security group of endpoints."""
    return {
        "Subnets": account.platform.subnets,
        "SecurityGroupIds": [account.platform["serving/security-group"]],
    }


def endpoint_request(
    account: DeploymentAccount, request: DeploymentRequest, config_name: str
) -> dict[str, Any]:
    """Return the request CreateEndpoint.

    Args:
        account: Account of the deployment.
        request: The deployment.
        config_name: Name of its configuration.
    """
    return {
        "EndpointName": account.resource_name(request.spec.name),
        "EndpointConfigName": config_name,
        "Tags": tag_list({**account.tags, **request.tags}),
    }


def deployment_config(rollout: Rollout, alarms: Sequence[str]) -> dict[str, Any]:
    """Return how the traffic shifts to another configuration, and the alarms that shift it back.

    Args:
        rollout: The shift.
        alarms: Names of the alarms.
    """
    kind = rollout.kind.upper().replace("-", "_")
    size = {"Type": "CAPACITY_PERCENT", "Value": max(1, round(rollout.size * 100))}
    routing: dict[str, Any] = {"Type": kind, "WaitIntervalInSeconds": int(rollout.wait)}
    if rollout.kind == "canary":
        routing["CanarySize"] = size
    elif rollout.kind == "linear":
        routing["LinearStepSize"] = size
    policy = {
        "TrafficRoutingConfiguration": routing,
        "TerminationWaitInSeconds": int(rollout.keep_old),
    }
    rollback = {"Alarms": [{"AlarmName": alarm} for alarm in alarms]}
    return {"BlueGreenUpdatePolicy": policy, "AutoRollbackConfiguration": rollback}


def _capture(account: DeploymentAccount, request: DeploymentRequest) -> dict[str, Any]:
    spec, platform = request.spec, account.platform
    assert spec.capture is not None
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": max(1, round(spec.capture * 100)),
        "DestinationS3Uri": f"s3://{platform['buckets/runs']}/{FILES}/{spec.name}/capture",
        "KmsKeyId": platform["keys/data"],
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }


def named(
    account: DeploymentAccount,
    request: DeploymentRequest,
    key: str,
    content: Mapping[str, Any],
    *,
    of_version: bool = True,
) -> dict[str, Any]:
    """Return a request with a name that ends in the digest of its content, and with tags.

    Args:
        account: Account of the deployment.
        request: The deployment.
        key: Member that holds the name.
        content: Members of the request.
        of_version: Whether the name is another one for another version.
    """
    version = request.model.id if of_version else ""
    text = json.dumps([key, version, content], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]
    stem = account.resource_name(request.spec.name)[: 63 - len(digest) - 1]
    tags = tag_list({**account.tags, **request.tags})
    return {key: f"{stem}-{digest}", **content, "Tags": tags}
