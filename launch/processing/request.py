"""The CreateProcessingJob request, as a pure function of the preparation and the platform.

The container is that of `containers/entrypoint/prepare.py`, whose docstring says what it expects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from catalog.instances import has_local_disk
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.tags import tag_value

INPUTS = "/opt/ml/processing/input"
JOB_INPUT = "job"
IMAGE_KIND = "prepare"
MAX_INPUTS = 10
"""Largest number of `ProcessingInputs`, the job file's included (botocore's model)."""
_MAX_NAME = 63
_MIN_VOLUME_GIB = 30
_MAX_VOLUME_GIB = 16384
_MAX_RUNTIME_S = 777_600


@dataclass(frozen=True)
class ProcessingResources:
    """Machines of a processing job.

    Attributes:
        instance: Instance type with `ml.`.
        count: Number of instances.
        volume_gib: Disk of each, which holds the inputs.
        max_runtime_s: Run time after which the service ends the job.
    """

    instance: str
    count: int
    volume_gib: float
    max_runtime_s: int


@dataclass(frozen=True)
class ProcessingContainer:
    """Container of a processing job: by default that of a preparation.

    Attributes:
        image: Kind of the image.
        role: Parameter of the role.
        arguments: Arguments of the image's entry point; none for its default command.
        outputs: Address in S3 of each folder in the container, by the name of the output.
    """

    image: str = IMAGE_KIND
    role: str = "roles/processing"
    arguments: tuple[str, ...] = ()
    outputs: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class ProcessingInput(NamedTuple):
    """Input of a processing job.

    Attributes:
        uri: S3 prefix, or the address of an object.
        folder: Name of the folder for what is below it; empty if the prefix has it itself.
    """

    uri: str
    folder: str = ""


def processing_request(
    name: str,
    inputs: Mapping[str, ProcessingInput],
    resources: ProcessingResources,
    platform: PlatformParameters,
    *,
    creator: str,
    data_set: str,
    container: ProcessingContainer | None = None,
) -> dict[str, Any]:
    """Return the CreateProcessingJob request of a preparation, or of another container.

    Args:
        name: Name of the processing job.
        inputs: Inputs by name; `job` is that of the job file.
        resources: Machines.
        platform: Parameters of the deployment.
        creator: Name of the user, for a tag.
        data_set: Name of the data set, for a tag.
        container: The container; that of a preparation if None.
    """
    container = container or ProcessingContainer()
    arguments = {"ContainerArguments": list(container.arguments)} if container.arguments else {}
    outputs = [
        {
            "OutputName": name,
            "S3Output": {"S3Uri": uri, "LocalPath": path, "S3UploadMode": "EndOfJob"},
        }
        for name, (uri, path) in container.outputs.items()
    ]
    # Local disks are encrypted by the hardware, and the service rejects a key for them.
    has_disk = has_local_disk(resources.instance)
    volume_key = {} if has_disk else {"VolumeKmsKeyId": platform["keys/data"]}
    volume = min(max(math.ceil(resources.volume_gib), _MIN_VOLUME_GIB), _MAX_VOLUME_GIB)
    environment = platform.environment
    tags = {
        **environment.tags,
        "Project": "temper",
        "Environment": environment.name,
        "Owner": environment.owner,
        "CostCentre": environment.cost_centre,
        "temper:job": data_set,
        "temper:creator": creator,
    }
    return {
        "ProcessingJobName": name,
        "ProcessingInputs": [_input(key, one) for key, one in inputs.items()],
        # A data set is written to S3 by the container; the key is what the engineer role requires.
        "ProcessingOutputConfig": {"Outputs": outputs, "KmsKeyId": platform["keys/data"]},
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": resources.count,
                "InstanceType": resources.instance,
                "VolumeSizeInGB": volume,
                **volume_key,
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": min(resources.max_runtime_s, _MAX_RUNTIME_S)},
        "AppSpecification": {"ImageUri": platform.image(container.image), **arguments},
        "NetworkConfig": {
            "EnableInterContainerTrafficEncryption": platform.encrypts_traffic,
            "EnableNetworkIsolation": False,
            "VpcConfig": {
                "Subnets": platform.subnets,
                "SecurityGroupIds": platform.security_groups,
            },
        },
        "RoleArn": platform[container.role],
        "Tags": [{"Key": key, "Value": tag_value(value)} for key, value in tags.items() if value],
    }


def job_name(prefix: str, data_set: str, digest: str, attempt: int) -> str:
    """Return the name of the processing job of an attempt, at most 63 characters.

    It is determined by what is prepared, so that the same command finds the job that it started,
    on any machine.

    Args:
        prefix: Prefix of the environment, whose roles may touch jobs of these names only.
        data_set: Name of the data set.
        digest: Digest of the job file, its inputs and the image.
        attempt: Number of the attempt, from 1.
    """
    end = f"-{digest[:12]}-{attempt}"
    name = f"{prefix}-prepare-{data_set}".replace("_", "-").replace(".", "-")
    return name[: _MAX_NAME - len(end)].rstrip("-") + end


def _input(name: str, given: ProcessingInput) -> dict[str, Any]:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": given.uri,
            "LocalPath": f"{INPUTS}/{name}/{given.folder}".rstrip("/"),
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
        },
    }


def input_names(count: int) -> Sequence[str]:
    """Return the names of the inputs of a number of files and folders."""
    return [f"source-{index}" for index in range(count)]
