"""Problems of a job that its environment rejects or does not provide for.

They are all reported before anything is uploaded.
"""

from __future__ import annotations

from collections.abc import Iterator

from launch.aws.cost_limits import cost_limit_problems
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.tags import MAX_TAG_LENGTH, invalid_characters
from launch.aws.volume_size import volume_problems
from launch.environment import LaunchEnvironment
from launch.job_inputs import missing_channels
from launch.prepared_job import PreparedJob
from launch.resources import cloud_resources, stages_of
from training.errors import Problem

_MAX_CHANNELS = 20


def environment_problems(prepared: PreparedJob, platform: PlatformParameters) -> list[Problem]:
    """Return what a job requests and its environment rejects or does not provide.

    Args:
        prepared: The job.
        platform: Parameters of the environment.
    """
    resources = cloud_resources(prepared.job, prepared.source, "sagemaker")
    problems = [
        *missing_channels(prepared.job),
        *tag_problems(platform.environment),
        *cost_limit_problems(resources, platform),
    ]
    if len(prepared.inputs) >= _MAX_CHANNELS:
        problems.append(
            Problem(
                "data",
                f"a job reads at most {_MAX_CHANNELS - 1} files and folders",
                str(len(prepared.inputs)),
                "Put them into one folder",
            )
        )
    if platform.get("network/internet") == "false":
        problems += [
            Problem(
                "model.source / data",
                "is on the model hub, which this environment's network cannot reach",
                name,
                "Download it and name the folder; it is copied for you",
            )
            for name in prepared.hub_names
        ]
    wants_lustre = any(run.resources.input_mode == "fsx" for run in stages_of(prepared.job))
    if wants_lustre and platform.get("lustre/file-system") is None:
        fix = "Use file or fast_file"
        problems.append(
            Problem("resources.input_mode", "this environment has no Lustre", "fsx", fix)
        )
    return [
        *problems,
        *_endpoint_problems(prepared, platform),
        *_registry_problems(prepared, platform),
        *volume_problems(prepared),
    ]


def _registry_problems(prepared: PreparedJob, platform: PlatformParameters) -> Iterator[Problem]:
    registers = any(run.resources.register_model for run in stages_of(prepared.job))
    if registers and platform.get("training/model-package-group") is None:
        yield Problem(
            "resources.register_model",
            "this environment has no model registry",
            "true",
            f"make deploy ENV={platform.environment.name} creates it; or leave the key out",
        )


def tag_problems(environment: LaunchEnvironment) -> Iterator[Problem]:
    """Yield the values of the environment that cannot be a training job's tag."""
    settings = f"environments/{environment.name}.yaml"
    values = {"owner": environment.owner, "cost_centre": environment.cost_centre}
    for key, value in values.items():
        invalid = invalid_characters(value)
        if invalid or len(value) > MAX_TAG_LENGTH:
            yield Problem(
                f"{key} of {settings}",
                f"cannot be a tag of a training job: SageMaker rejects {invalid!r}"
                if invalid
                else f"cannot be a tag: it has more than {MAX_TAG_LENGTH} characters",
                value,
                "Write letters, digits, spaces and _ . : / = + - @, and deploy again",
            )


def _endpoint_problems(prepared: PreparedJob, platform: PlatformParameters) -> Iterator[Problem]:
    """Yield what the job's endpoints require and this environment does not provide."""
    environment = platform.environment
    settings = f"environments/{environment.name}.yaml"
    allowed = (platform.get("bedrock/judges") or "").split(",")
    for endpoint in prepared.endpoints:
        variable = endpoint.key_variable
        if variable and platform.get(f"secrets/keys/{variable}") is None:
            yield Problem(
                f"{endpoint.key}.api_key_env",
                "names a key that this environment does not store",
                variable,
                f"Add it to storage.keys of {settings}, deploy, and put its value into the secret",
            )
        if endpoint.region not in (None, environment.region):
            yield Problem(
                f"{endpoint.key}.region",
                "is not a Region that this environment's jobs may call",
                str(endpoint.region),
                f"Write {environment.region}; an inference profile reaches other Regions",
            )
        if endpoint.kind == "bedrock" and endpoint.model not in allowed:
            yield Problem(
                f"{endpoint.key}.model",
                "may not be called by this environment's jobs",
                endpoint.model,
                f"Add it to bedrock.judges of {settings}, and deploy",
            )
