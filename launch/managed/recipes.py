"""Recipe of SageMaker HyperPod as a training job: its file with a job's values, and the request.

The steps are those of the SageMaker Python SDK (github.com/aws/sagemaker-python-sdk:
sagemaker-train/src/sagemaker/train/base_trainer.py, `_train_serverful_smtj`). The SDK itself is not
a dependency: it needs protobuf below 7. A test compares the file and the request with the SDK's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from launch.aws.create_training_job import (
    encrypts_traffic,
    job_tags,
    max_runtime_s,
    resource_config,
)
from launch.aws.platform_parameters import PlatformParameters
from launch.errors import LaunchError
from launch.managed.jobs import HubJob
from launch.managed.requests import DataAddresses, channel, managed_output_uri
from launch.submission import Submission

_INPUTS, _OUTPUT = "/opt/ml/input/data", "/opt/ml/model"
RECIPE_FILE = "recipe.yaml"
_MODEL = "model_name_or_path"
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_BARE = re.compile(r"(?m)(?<=[:\-] )(\{\{\s*\w+\s*\}\})[ \t]*$")
"""Placeholder that is not in quotes, which YAML would read as a mapping."""
_ABSENT = (
    *("name", "data_s3_path", "output_s3_path"),
    *("mlflow_tracking_uri", "mlflow_experiment_name", "mlflow_run_name"),
)
"""Parameters that templates have and that specifications leave out."""


@dataclass(frozen=True)
class RecipeInputs:
    """Addresses of what the container of a recipe reads.

    Attributes:
        data: Addresses of the records.
        recipe: Address of the recipe's file.
        weights: Address of the weights of the base model; None if the container finds them.
        volume_gib: Size of the volume.
        grader: ARN of the function that scores answers, for RLVR.
    """

    data: DataAddresses
    recipe: str
    weights: str | None
    volume_gib: float
    grader: str | None = None


def base_weights(job: HubJob) -> str | None:
    """Return the address of the weights that a recipe reads; None if it names a model itself."""
    return job.model.weights if needs_weights(job) else None


def needs_weights(job: HubJob) -> bool:
    """Return whether a recipe leaves it to the job to provide the weights of the base model."""
    return _MODEL in job.specification and not job.specification[_MODEL].get("default")


def recipe_values(
    job: HubJob, submission: Submission, platform: PlatformParameters, grader: str | None = None
) -> dict[str, Any]:
    """Return the values of a recipe's parameters.

    Args:
        job: The job, with its recipe.
        submission: The run.
        platform: Parameters of the environment.
        grader: ARN of the function that scores answers.
    """
    values: dict[str, Any] = dict.fromkeys(_ABSENT, "")
    values |= {name: about.get("default") for name, about in job.specification.items()}
    values |= job.run.parameters
    name = submission.latest.name
    own = {
        "name": name,
        "data_path": f"{_INPUTS}/train/train.jsonl",
        "output_path": _OUTPUT,
        "replicas": job.run.job.resources.count,
        "instance_type": job.run.job.resources.instance,
    }
    if job.data.validation:
        own["validation_data_path"] = f"{_INPUTS}/validation/validation.jsonl"
    if base_weights(job):
        own[_MODEL] = f"{_INPUTS}/model"
    if grader:
        own["reward_lambda_arn"] = grader
    if app := platform.get("training/mlflow-app"):
        own["mlflow_tracking_uri"] = app
        own["mlflow_experiment_name"] = submission.run.partition("/")[0]
        own["mlflow_run_name"] = name
    return values | {key: value for key, value in own.items() if key in values}


def render_recipe(template: str, values: Mapping[str, Any]) -> str:
    """Return the file of a recipe with values in place of `{{NAME}}`.

    Args:
        template: Template of SageMaker's hub.
        values: Values of its parameters, by name.

    Raises:
        LaunchError: The template is no YAML, or has a placeholder without a value.
    """
    try:
        document = yaml.safe_load(_BARE.sub(r"'\1'", template))
    except yaml.YAMLError as error:
        raise LaunchError(f"the recipe of SageMaker's hub is no YAML: {error}") from None
    unknown = sorted(set(_PLACEHOLDER.findall(template)) - set(values))
    if unknown:
        raise LaunchError(
            f"the recipe of SageMaker's hub has parameters without a value: {', '.join(unknown)}. "
            "Use --target sagemaker-serverless, or --target sagemaker"
        )
    return yaml.safe_dump(_rendered(document, values), sort_keys=False)


def _rendered(node: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _rendered(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_rendered(value, values) for value in node]
    if not isinstance(node, str):
        return node
    whole = _PLACEHOLDER.fullmatch(node)
    if whole:
        return values[whole[1]]
    return _PLACEHOLDER.sub(lambda match: str(values[match[1]]), node)


def recipe_request(
    submission: Submission, job: HubJob, inputs: RecipeInputs, platform: PlatformParameters
) -> dict[str, Any]:
    """Return the CreateTrainingJob request of a recipe.

    Args:
        submission: The run, whose latest attempt names the training job.
        job: The job, with its recipe.
        inputs: Addresses of what the container reads.
        platform: Parameters of the environment.
    """
    resources = job.run.job.resources
    channels = {
        "train": inputs.data.train,
        "validation": inputs.data.validation,
        "model": inputs.weights,
        "recipe": inputs.recipe,
    }
    request: dict[str, Any] = {
        "TrainingJobName": submission.latest.name,
        "AlgorithmSpecification": {
            "TrainingImage": job.recipe["SmtjImageUri"],
            "TrainingInputMode": "File",
        },
        "RoleArn": platform["roles/training"],
        "HyperParameters": {"sagemaker_recipe_local_path": f"{_INPUTS}/recipe/{RECIPE_FILE}"},
        "InputDataConfig": [channel(name, uri) for name, uri in channels.items() if uri],
        "OutputDataConfig": {
            "S3OutputPath": managed_output_uri(submission.run, platform),
            "KmsKeyId": platform["keys/models"],
            "CompressionType": "NONE",
        },
        "ResourceConfig": resource_config(inputs.volume_gib, resources, platform),
        "StoppingCondition": {"MaxRuntimeInSeconds": max_runtime_s(resources, platform)},
        "VpcConfig": {
            "Subnets": platform.subnets,
            "SecurityGroupIds": platform.security_groups,
        },
        "EnableInterContainerTrafficEncryption": encrypts_traffic(resources, platform),
        "Tags": job_tags(submission, platform),
    }
    *_, weights, recipe = request["InputDataConfig"]
    recipe["InputMode"] = "File"
    if job.model.is_gated and inputs.weights:
        source = weights["DataSource"]["S3DataSource"]
        source["HubAccessConfig"] = {"HubContentArn": job.model.arn}
        # The user has accepted it: `submit` asks before it sends anything.
        source["ModelAccessConfig"] = {"AcceptEula": True}
    return request
