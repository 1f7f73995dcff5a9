"""CreateTrainingJob: the request, as one pure function of the job and the platform.

boto3 carries it rather than the typed resources of the SageMaker SDK, whose shapes lag behind
the service (3.20 had no instance preferences) and whose installation takes a gigabyte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launch.aws.platform_parameters import PlatformParameters
from launch.resources import has_local_disk, image_kind
from training.config.runtime import Resources
from training.tracking.progress_lines import METRIC_PATTERNS

ML = "/opt/ml"
INPUTS = f"{ML}/input/data"
CHECKPOINTS = f"{ML}/checkpoints"
JOB_CHANNEL = "job"
JOB_FILE = "job.yaml"

_DAY_S = 86400
_SMALLEST_VOLUME_GIB = 30
_LARGEST_VOLUME_GIB = 16384


@dataclass(frozen=True)
class JobSpec:
    """What one attempt of a run needs, beside the machines.

    Attributes:
        name: Of the training job; unique in the account and Region.
        run: The run it belongs to: `<name>/<run id>`.
        creator: Who asked, for the tag.
        channels: Each item's address in S3, by channel; the job file's own is among them.
        volume_gib: Disk that the run needs.
        needs_hub: Whether something of it is fetched from the model hub.
        mlflow: Whether it is tracked.
        calls: Whether it calls an endpoint, as a judge or a teacher.
        keys: Environment variables in which the endpoints' keys stand.
    """

    name: str
    run: str
    creator: str
    channels: Mapping[str, str] = field(default_factory=dict)
    volume_gib: float = _SMALLEST_VOLUME_GIB
    needs_hub: bool = False
    mlflow: bool = False
    calls: bool = False
    keys: tuple[str, ...] = ()


def training_job(
    order: JobSpec, resources: Resources, platform: PlatformParameters
) -> dict[str, Any]:
    """Return the request of one training job.

    Every S3 address, key, subnet and role in it is one that the platform published.

    Args:
        order: The run's side.
        resources: The machines, as the job asks for them.
        platform: Where it runs.
    """
    assert resources.instance is not None, "checked before"
    isolated = is_isolated(order, resources, platform)
    request: dict[str, Any] = {
        "TrainingJobName": order.name,
        "AlgorithmSpecification": {
            "TrainingImage": resources.image or platform.image(image_kind(resources.instance)),
            "TrainingInputMode": "FastFile" if resources.input_mode == "fast_file" else "File",
            "MetricDefinitions": metric_definitions(),
        },
        "RoleArn": platform["roles/training"],
        "InputDataConfig": [
            _channel(name, address, resources, platform) for name, address in order.channels.items()
        ],
        "OutputDataConfig": {
            "S3OutputPath": output_address(order.run, platform),
            "KmsKeyId": platform["keys/models"],
        },
        "CheckpointConfig": {
            "S3Uri": checkpoint_address(order.run, platform),
            "LocalPath": CHECKPOINTS,
        },
        "ResourceConfig": _machines(order, resources, platform),
        "StoppingCondition": _limits(resources),
        "VpcConfig": {
            "Subnets": platform.subnets,
            "SecurityGroupIds": platform.security_groups,
        },
        "EnableNetworkIsolation": isolated,
        "EnableInterContainerTrafficEncryption": _encrypts(resources, platform),
        # Debugger and its profiler are closed to new accounts since July 2026.
        "ProfilerConfig": {"DisableProfiler": True},
        "Environment": _environment(order, platform, isolated=isolated),
        "Tags": _tags(order, platform),
    }
    if resources.spot:
        request["EnableManagedSpotTraining"] = True
    if resources.retries:
        request["RetryStrategy"] = {"MaximumRetryAttempts": resources.retries}
    app = platform.get("training/mlflow-app")
    if order.mlflow and app:
        request["MlflowConfig"] = {
            "MlflowResourceArn": app,
            "MlflowExperimentName": order.run.partition("/")[0],
            "MlflowRunName": order.name,
        }
    group = platform.get("training/model-package-group")
    if resources.register_model and group:
        request["ModelPackageConfig"] = {"ModelPackageGroupArn": group}
    return request


def metric_definitions() -> list[dict[str, str]]:
    """Return the patterns of the progress line, as the service wants them."""
    return [{"Name": name, "Regex": pattern} for name, pattern in METRIC_PATTERNS.items()]


def checkpoint_address(run: str, platform: PlatformParameters) -> str:
    """Return where a run's checkpoints are kept; a lifecycle rule ends what is there."""
    return f"s3://{platform['buckets/runs']}/checkpoints/{run}/"


def output_address(run: str, platform: PlatformParameters) -> str:
    """Return where a run's models go."""
    return f"s3://{platform['buckets/models']}/models/{run}/"


def is_isolated(order: JobSpec, resources: Resources, platform: PlatformParameters) -> bool:
    """Whether the container has no network: unless the job says so, when nothing needs one."""
    if resources.network_isolation is not None:
        return resources.network_isolation
    tracked = order.mlflow and platform.get("training/mlflow-app") is not None
    return not (order.needs_hub or order.calls or tracked)


def _channel(
    name: str, address: str, resources: Resources, platform: PlatformParameters
) -> dict[str, Any]:
    """Return one input; the job's own file is always copied."""
    data = f"s3://{platform['buckets/data']}/"
    if resources.input_mode == "fsx" and name != JOB_CHANNEL and address.startswith(data):
        source: dict[str, Any] = {
            "FileSystemDataSource": {
                "FileSystemId": platform["lustre/file-system"],
                "FileSystemType": "FSxLustre",
                "FileSystemAccessMode": "ro",
                "DirectoryPath": f"/{platform.lustre_mount}/data/{address.removeprefix(data)}",
            }
        }
        return {"ChannelName": name, "DataSource": source}
    source = {
        "S3DataSource": {
            "S3DataType": "S3Prefix",
            "S3Uri": address,
            "S3DataDistributionType": "FullyReplicated",
        }
    }
    mode = {"InputMode": "File"} if name == JOB_CHANNEL else {}
    return {"ChannelName": name, "DataSource": source, **mode}


def _machines(order: JobSpec, resources: Resources, platform: PlatformParameters) -> dict[str, Any]:
    assert resources.instance is not None
    types = (resources.instance, *resources.fallback)
    volume = min(max(math.ceil(order.volume_gib), _SMALLEST_VOLUME_GIB), _LARGEST_VOLUME_GIB)
    machines: dict[str, Any] = {"VolumeSizeInGB": volume}
    if not all(has_local_disk(kind) for kind in types):
        machines["VolumeKmsKeyId"] = platform["keys/data"]
    if len(types) > 1:
        plan = {"TrainingPlanArns": [resources.training_plan]} if resources.training_plan else {}
        machines["InstancePreferences"] = [
            {"InstanceType": kind, "InstanceCount": resources.count, **(plan if i == 0 else {})}
            for i, kind in enumerate(types)
        ]
    else:
        machines |= {"InstanceType": resources.instance, "InstanceCount": resources.count}
        if resources.training_plan:
            machines["TrainingPlanArn"] = resources.training_plan
    if resources.keep_alive:
        machines["KeepAlivePeriodInSeconds"] = int(resources.keep_alive)
    return machines


def _limits(resources: Resources) -> dict[str, int]:
    longest = int(resources.max_runtime or _DAY_S)
    limits = {"MaxRuntimeInSeconds": longest}
    if resources.spot:
        limits["MaxWaitTimeInSeconds"] = int(resources.max_wait or 2 * longest)
    return limits


def _encrypts(resources: Resources, platform: PlatformParameters) -> bool:
    if platform.encrypts_traffic or resources.encrypt_traffic is None:
        return platform.encrypts_traffic
    return resources.encrypt_traffic


def _environment(order: JobSpec, platform: PlatformParameters, *, isolated: bool) -> dict[str, str]:
    """Return the container's variables. No secret stands among them, only names."""
    found = {"TEMPER_RUN": order.run, "TEMPER_JOB": f"{INPUTS}/{JOB_CHANNEL}/{JOB_FILE}"}
    app = platform.get("training/mlflow-app")
    if order.mlflow and app and not isolated:
        found |= {
            "MLFLOW_TRACKING_URI": app,
            "MLFLOW_EXPERIMENT_NAME": order.run.partition("/")[0],
        }
    if not order.needs_hub:
        found["HF_HUB_OFFLINE"] = "1"
    secrets = {name: platform.get(f"secrets/keys/{name}") for name in order.keys}
    if order.needs_hub:
        secrets["HF_TOKEN"] = platform.get("secrets/hub-token")
    if named := {variable: name for variable, name in secrets.items() if name}:
        found["TEMPER_SECRETS"] = json.dumps(named)
    return found


def _tags(order: JobSpec, platform: PlatformParameters) -> list[dict[str, str]]:
    environment = platform.environment
    name, _, run_id = order.run.partition("/")
    tags = {
        "Project": "temper",
        "Environment": environment.name,
        "Owner": environment.owner,
        "CostCentre": environment.cost_centre,
        "temper:job": name,
        "temper:run": run_id,
        "temper:creator": order.creator,
    }
    return [{"Key": key, "Value": value[:256]} for key, value in tags.items() if value]
