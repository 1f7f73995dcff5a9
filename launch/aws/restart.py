"""Restart of a training job from SageMaker's description of it.

A person who did not submit a job has neither its files nor its plan. The description has every
field of its request, so the same request can be sent again; the run then resumes from its
checkpoints in S3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from catalog.prices import price
from launch.aws.create_training_job import INPUTS, JOB_CHANNEL
from launch.environment import LaunchEnvironment
from launch.errors import LaunchError


def with_channel_addresses(text: str, job: Mapping[str, Any]) -> str:
    """Return a job file with S3 addresses in place of the paths of its input channels.

    Args:
        text: Job file as it was sent, with paths below `/opt/ml/input/data`.
        job: Description of the training job, which has the address of each channel.

    Raises:
        LaunchError: The text is not the YAML of a job.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise LaunchError(f"it is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise LaunchError("it is not the YAML of a job")
    addresses = {
        f"{INPUTS}/{channel['ChannelName']}": _address(channel)
        for channel in job.get("InputDataConfig", ())
        if channel["ChannelName"] != JOB_CHANNEL
    }
    addressed = _replaced(document, {k: v for k, v in addresses.items() if v})
    return str(yaml.safe_dump(addressed, sort_keys=False, allow_unicode=True, width=100))


def _address(channel: Mapping[str, Any]) -> str:
    source = channel["DataSource"].get("S3DataSource", {})
    return str(source.get("S3Uri", ""))


def _replaced(value: Any, addresses: Mapping[str, str]) -> Any:
    """Return a part of a job with every path inside a channel replaced."""
    if isinstance(value, dict):
        return {key: _replaced(part, addresses) for key, part in value.items()}
    if isinstance(value, list):
        return [_replaced(part, addresses) for part in value]
    if not isinstance(value, str):
        return value
    for channel, address in addresses.items():
        if value == channel or value.startswith(f"{channel}/"):
            rest = value.removeprefix(channel).lstrip("/")
            # The channel of a single object has the object's own address.
            return address if address.endswith(f"/{rest}") else f"{address.rstrip('/')}/{rest}"
    return value


def describe_request(
    job: Mapping[str, Any], environment: LaunchEnvironment
) -> tuple[tuple[str, ...], str]:
    """Return what a restart of a described job creates and costs, as lines, and the question.

    Args:
        job: Description of the job.
        environment: Environment that it runs in.
    """
    config = job["ResourceConfig"]
    preferred = (config.get("InstancePreferences") or [{}])[0]
    instance = config.get("InstanceType") or preferred.get("InstanceType", "")
    count = config.get("InstanceCount") or preferred.get("InstanceCount", 1)
    hours = job["StoppingCondition"]["MaxRuntimeInSeconds"] / 3600
    hourly = price(instance)
    cost = (
        f"at most {hours * count * hourly.on_demand_usd:.2f} USD"
        if hourly
        else "an unknown cost (no price is known)"
    )
    spot = ", spot" if job.get("EnableManagedSpotTraining") else ""
    return (
        (
            f"{count} × {instance}{spot}, {environment.region} ({environment.name})",
            f"image {job['AlgorithmSpecification'].get('TrainingImage', 'of the service')}",
            f"the request of {job['TrainingJobName']}, sent again; at most {hours:.1f} h, {cost}",
        ),
        f"Resume for {cost}?",
    )


def restart_request(
    sagemaker: Any, job: Mapping[str, Any], name: str, tags: list[dict[str, str]]
) -> dict[str, Any]:
    """Return the CreateTrainingJob request that runs a described job again under a new name.

    The description has every field of the request it was created by, among fields that only the
    service writes; those that the request does not accept are left out.

    Args:
        sagemaker: boto3 client of `sagemaker`.
        job: Description of the job.
        name: Name of the new job.
        tags: Tags of the job, which its description lacks.
    """
    model = sagemaker.meta.service_model.operation_model("CreateTrainingJob").input_shape
    request: dict[str, Any] = _accepted(model, job)
    # Type that the service selected; the request only lists `InstancePreferences`.
    for chosen in ("SelectedInstanceType", "SelectedInstanceCount"):
        request["ResourceConfig"].pop(chosen, None)
    request["TrainingJobName"] = name
    request["Tags"] = [tag for tag in tags if not tag["Key"].startswith("aws:")]
    if "MlflowConfig" in request:
        request["MlflowConfig"]["MlflowRunName"] = name
    return request


def _accepted(shape: Any, value: Any) -> Any:
    """Return a value without the members that a shape of botocore's model does not have."""
    if shape.type_name == "structure":
        return {
            key: _accepted(shape.members[key], part)
            for key, part in value.items()
            if key in shape.members and part is not None
        }
    if shape.type_name == "list":
        return [_accepted(shape.member, part) for part in value]
    return value
