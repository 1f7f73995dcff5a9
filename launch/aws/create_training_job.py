"""The CreateTrainingJob request, as a pure function of the run, the job's needs and the platform.

boto3 sends it rather than the typed resources of the SageMaker SDK, whose shapes lag behind the
service (3.20 had no instance preferences) and whose installation takes a gigabyte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.instances import has_local_disk
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.tags import tag_value
from launch.resources import image_kind
from launch.submission import Submission
from training.config.runtime import Resources
from training.tracking.progress_lines import METRIC_PATTERNS

ML = "/opt/ml"
INPUTS = f"{ML}/input/data"
CHECKPOINTS = f"{ML}/checkpoints"
JOB_CHANNEL = "job"
JOB_FILE = "job.yaml"

_DAY_S = 86400
_MIN_VOLUME_GIB = 30
_MAX_VOLUME_GIB = 16384


@dataclass(frozen=True)
class JobRequirements:
    """Inputs, disk and network access that a job requires, in addition to its machines.

    Kept apart from the job so that the request stays a pure function, which golden files check
    without a model, a plan or an upload.

    Attributes:
        channels: S3 address of each input channel by name, the job file's own included.
        volume_gib: Disk that the run needs, in GiB.
        needs_hub: The job downloads something from the model hub.
        mlflow: The job logs to MLflow.
        calls_endpoints: The job calls a remote judge or teacher.
        key_variables: Environment variables that hold the endpoints' API keys.
    """

    channels: Mapping[str, str] = field(default_factory=dict)
    volume_gib: float = _MIN_VOLUME_GIB
    needs_hub: bool = False
    mlflow: bool = False
    calls_endpoints: bool = False
    key_variables: tuple[str, ...] = ()


def create_request(
    submission: Submission,
    requirements: JobRequirements,
    resources: Resources,
    platform: PlatformParameters,
) -> dict[str, Any]:
    """Return the CreateTrainingJob request of a run's latest attempt.

    Every S3 address, key, subnet and role in it is one that the platform published: the policies
    of the platform deny a request that names any other.

    Args:
        submission: The run, whose latest attempt names the training job.
        requirements: What the job requires.
        resources: Machines that the job requests.
        platform: Parameters of the deployment that executes it.
    """
    assert resources.instance is not None, "checked before"
    name = submission.latest.name
    isolated = is_isolated(requirements, resources, platform)
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": resources.image or platform.image(image_kind(resources.instance)),
            "TrainingInputMode": "FastFile" if resources.input_mode == "fast_file" else "File",
            "MetricDefinitions": metric_definitions(),
        },
        "RoleArn": _role(requirements, platform),
        "InputDataConfig": [
            _channel(channel, uri, resources, platform)
            for channel, uri in requirements.channels.items()
        ],
        "OutputDataConfig": {
            "S3OutputPath": output_uri(submission.run, platform),
            "KmsKeyId": platform["keys/models"],
            "CompressionType": resources.output_compression.upper(),
        },
        "CheckpointConfig": {
            "S3Uri": checkpoint_uri(submission.run, platform),
            "LocalPath": CHECKPOINTS,
        },
        "ResourceConfig": resource_config(requirements.volume_gib, resources, platform),
        "StoppingCondition": _stopping_condition(resources, platform),
        "VpcConfig": {
            "Subnets": platform.subnets,
            "SecurityGroupIds": platform.security_groups,
        },
        "EnableNetworkIsolation": isolated,
        "EnableInterContainerTrafficEncryption": encrypts_traffic(resources, platform),
        # Debugger and its profiler are closed to new accounts since July 2026.
        "ProfilerConfig": {"DisableProfiler": True},
        "Environment": _environment(submission.run, requirements, platform, isolated=isolated),
        "Tags": job_tags(submission, platform),
    }
    if resources.spot:
        request["EnableManagedSpotTraining"] = True
    if resources.retries:
        request["RetryStrategy"] = {"MaximumRetryAttempts": resources.retries}
    app = platform.get("training/mlflow-app")
    if requirements.mlflow and app:
        request["MlflowConfig"] = {
            "MlflowResourceArn": app,
            "MlflowExperimentName": submission.run.partition("/")[0],
            "MlflowRunName": name,
        }
    if resources.register_model:
        group = platform["training/model-package-group"]  # its absence is refused before
        request["ModelPackageConfig"] = {"ModelPackageGroupArn": group}
    return request


def metric_definitions() -> list[dict[str, str]]:
    """Return the patterns of the progress line in the form of the service's MetricDefinitions."""
    return [{"Name": name, "Regex": pattern} for name, pattern in METRIC_PATTERNS.items()]


def checkpoint_uri(run: str, platform: PlatformParameters) -> str:
    """Return the S3 prefix of a run's checkpoints, which a lifecycle rule expires."""
    return f"s3://{platform['buckets/runs']}/checkpoints/{run}/"


def output_uri(run: str, platform: PlatformParameters) -> str:
    """Return the S3 prefix of a run's models."""
    return f"s3://{platform['buckets/models']}/models/{run}/"


def is_isolated(
    requirements: JobRequirements, resources: Resources, platform: PlatformParameters
) -> bool:
    """Return whether the container runs without a network.

    The job decides; by default it is isolated unless the hub, an endpoint or MLflow is needed.

    Args:
        requirements: What the job requires.
        resources: Machines that the job requests, with its `network_isolation`.
        platform: Parameters of the deployment.
    """
    if resources.network_isolation is not None:
        return resources.network_isolation
    tracked = requirements.mlflow and platform.get("training/mlflow-app") is not None
    return not (requirements.needs_hub or requirements.calls_endpoints or tracked)


def _channel(
    name: str, uri: str, resources: Resources, platform: PlatformParameters
) -> dict[str, Any]:
    """Return one input channel; the job file is copied whatever the input mode of the job."""
    data = f"s3://{platform['buckets/data']}/"
    if resources.input_mode == "fsx" and name != JOB_CHANNEL and uri.startswith(data):
        source: dict[str, Any] = {
            "FileSystemDataSource": {
                "FileSystemId": platform["lustre/file-system"],
                "FileSystemType": "FSxLustre",
                "FileSystemAccessMode": "ro",
                "DirectoryPath": f"/{platform.lustre_mount}/data/{uri.removeprefix(data)}",
            }
        }
        return {"ChannelName": name, "DataSource": source}
    source = {
        "S3DataSource": {
            "S3DataType": "S3Prefix",
            "S3Uri": uri,
            "S3DataDistributionType": "FullyReplicated",
        }
    }
    mode = {"InputMode": "File"} if name == JOB_CHANNEL else {}
    return {"ChannelName": name, "DataSource": source, **mode}


def resource_config(
    volume_gib: float, resources: Resources, platform: PlatformParameters
) -> dict[str, Any]:
    """Return the `ResourceConfig` of a job: its instances and their volume.

    Args:
        volume_gib: Size of the volume that the job needs.
        resources: Machines that the job requests.
        platform: Parameters of the deployment that executes it.
    """
    assert resources.instance is not None
    types = (resources.instance, *resources.fallback)
    volume = min(max(math.ceil(volume_gib), _MIN_VOLUME_GIB), _MAX_VOLUME_GIB)
    config: dict[str, Any] = {"VolumeSizeInGB": volume}
    # Local disks are encrypted by the hardware, and the service rejects a key for them.
    if not all(has_local_disk(instance_type) for instance_type in types):
        config["VolumeKmsKeyId"] = platform["keys/data"]
    if len(types) > 1:
        plan = {"TrainingPlanArns": [resources.training_plan]} if resources.training_plan else {}
        config["InstancePreferences"] = [
            {
                "InstanceType": instance_type,
                "InstanceCount": resources.count,
                **(plan if i == 0 else {}),
            }
            for i, instance_type in enumerate(types)
        ]
    else:
        config |= {"InstanceType": resources.instance, "InstanceCount": resources.count}
        if resources.training_plan:
            config["TrainingPlanArn"] = resources.training_plan
    if resources.keep_alive:
        config["KeepAlivePeriodInSeconds"] = int(resources.keep_alive)
    return config


def _role(requirements: JobRequirements, platform: PlatformParameters) -> str:
    """Return the role of the container, which can read secrets only if the job names one."""
    role = platform["roles/training"]
    if not (requirements.needs_hub or requirements.key_variables):
        return role
    return platform.get("roles/training-with-secrets") or role


def max_runtime_s(resources: Resources, platform: PlatformParameters) -> int:
    """Return the run time after which SageMaker ends a job: a day, or the environment's limit."""
    hours = platform.get("training/max-runtime-hours")
    default_s = min(_DAY_S, int(hours) * 3600) if hours else _DAY_S
    return int(resources.max_runtime or default_s)


def _stopping_condition(resources: Resources, platform: PlatformParameters) -> dict[str, int]:
    limit_s = max_runtime_s(resources, platform)
    condition = {"MaxRuntimeInSeconds": limit_s}
    if resources.spot:
        # The wait includes the run time, so it must be at least as long.
        condition["MaxWaitTimeInSeconds"] = int(resources.max_wait or 2 * limit_s)
    return condition


def encrypts_traffic(resources: Resources, platform: PlatformParameters) -> bool:
    """Return whether the traffic between the instances of a job is encrypted."""
    if platform.encrypts_traffic or resources.encrypt_traffic is None:
        return platform.encrypts_traffic
    return resources.encrypt_traffic


def _environment(
    run: str, requirements: JobRequirements, platform: PlatformParameters, *, isolated: bool
) -> dict[str, str]:
    """Return the container's environment variables.

    They contain the names of secrets, never the values: everyone who may describe the job reads
    them.
    """
    variables = {"TEMPER_RUN": run, "TEMPER_JOB": f"{INPUTS}/{JOB_CHANNEL}/{JOB_FILE}"}
    app = platform.get("training/mlflow-app")
    if requirements.mlflow and app and not isolated:
        variables |= {
            "MLFLOW_TRACKING_URI": app,
            "MLFLOW_EXPERIMENT_NAME": run.partition("/")[0],
        }
    if not requirements.needs_hub:
        variables["HF_HUB_OFFLINE"] = "1"
    secrets = {
        variable: platform.get(f"secrets/keys/{variable}")
        for variable in requirements.key_variables
    }
    if requirements.needs_hub:
        secrets["HF_TOKEN"] = platform.get("secrets/hub-token")
    if named := {variable: secret for variable, secret in secrets.items() if secret}:
        variables["TEMPER_SECRETS"] = json.dumps(named)
    return variables


def job_tags(submission: Submission, platform: PlatformParameters) -> list[dict[str, str]]:
    """Return the tags of a run's job, by which its environment finds it again."""
    environment = platform.environment
    name, _, run_id = submission.run.partition("/")
    tags = {
        **environment.tags,
        "Project": "temper",
        "Environment": environment.name,
        "Owner": environment.owner,
        "CostCentre": environment.cost_centre,
        "temper:job": name,
        "temper:run": run_id,
        "temper:creator": submission.creator,
        **({} if submission.target == "sagemaker" else {"temper:target": submission.target}),
    }
    return [{"Key": key, "Value": tag_value(value)} for key, value in tags.items() if value]
