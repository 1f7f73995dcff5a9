"""Requests of managed customization, as pure functions of the run and of what it needs.

botocore sends them: the SageMaker Python SDK needs protobuf below 7, and this project has 7. A test
compares these requests with those of the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.aws.create_training_job import job_tags, max_runtime_s
from launch.aws.platform_parameters import PlatformParameters
from launch.submission import Submission
from planning.managed.run import ManagedRun
from training.config.judges import BedrockJudge

ROLE = "roles/bedrock-customization"
PACKAGE_GROUP = "training/model-package-group"
_CHANNELS = frozenset(
    (
        "data_path",
        "output_path",
        "data_s3_path",
        "output_s3_path",
        "training_data_name",
        "validation_data_name",
        "validation_data_path",
        "reward_lambda_arn",
    )
)
"""Parameters of recipes that the fields of a request set."""


@dataclass(frozen=True)
class DataAddresses:
    """Addresses of a job's records in S3.

    Attributes:
        train: Address of the records to learn from.
        validation: Address of the held-out records; None without any.
    """

    train: str
    validation: str | None = None


@dataclass(frozen=True)
class RecipeChoice:
    """Model and recipe of SageMaker's hub that a job uses.

    Attributes:
        model_arn: ARN of the model.
        specification: Parameters of the recipe, whose defaults fill in what a job does not set.
        accept_eula: Whether the user accepted the license.
        sequence_length: Sequence length of the recipe, such as `4K`; None if it has one alone.
    """

    model_arn: str
    specification: Mapping[str, Mapping[str, Any]]
    accept_eula: bool = False
    sequence_length: str | None = None


def managed_output_uri(run: str, platform: PlatformParameters) -> str:
    """Return the S3 prefix of what a provider writes for a run."""
    return f"s3://{platform['buckets/models']}/models/{run}/"


def bedrock_request(
    submission: Submission,
    run: ManagedRun,
    data: DataAddresses,
    platform: PlatformParameters,
    grader: str | None = None,
) -> dict[str, Any]:
    """Return the CreateModelCustomizationJob request of a run's latest attempt.

    Args:
        submission: The run, whose latest attempt names the job and its model.
        run: The job as Bedrock runs it.
        data: Addresses of its records.
        platform: Parameters of the environment.
        grader: ARN of the function that scores answers, for reinforcement fine-tuning.
    """
    name = submission.latest.name
    tags = [{"key": tag["Key"], "value": tag["Value"]} for tag in job_tags(submission, platform)]
    request: dict[str, Any] = {
        "jobName": name,
        "customModelName": name,
        "roleArn": platform[ROLE],
        "clientRequestToken": name,
        "baseModelIdentifier": run.model.base or run.model.name,
        "customizationType": run.method.technique,
        "customModelKmsKeyId": platform["keys/models"],
        "jobTags": tags,
        "customModelTags": tags,
        "trainingDataConfig": {"s3Uri": data.train},
        "outputDataConfig": {"s3Uri": managed_output_uri(submission.run, platform)},
        "vpcConfig": {
            "subnetIds": platform.subnets,
            "securityGroupIds": platform.security_groups,
        },
    }
    if data.validation:
        request["validationDataConfig"] = {"validators": [{"s3Uri": data.validation}]}
    if run.kind == "grpo":
        request["customizationConfig"] = {
            "rftConfig": {
                "graderConfig": {"lambdaGrader": {"lambdaArn": grader}},
                "hyperParameters": dict(run.parameters),
            }
        }
    else:
        request["hyperParameters"] = {name: str(value) for name, value in run.parameters.items()}
    if run.teacher is not None:
        teacher = run.teacher.teacher
        assert isinstance(teacher, BedrockJudge), "another one is a problem"
        request["customizationConfig"] = {
            "distillationConfig": {
                "teacherModelConfig": {
                    "teacherModelIdentifier": teacher.model,
                    "maxResponseLengthForInference": teacher.max_new_tokens,
                }
            }
        }
    return request


def serverless_request(
    submission: Submission,
    run: ManagedRun,
    data: DataAddresses,
    platform: PlatformParameters,
    recipe: RecipeChoice,
    evaluator: str | None = None,
) -> dict[str, Any]:
    """Return the CreateTrainingJob request of serverless customization.

    Args:
        submission: The run, whose latest attempt names the training job.
        run: The job as SageMaker runs it.
        data: Addresses of its records.
        platform: Parameters of the environment.
        recipe: Model and recipe of SageMaker's hub.
        evaluator: ARN of the evaluator whose function scores answers, for RLVR.
    """
    kind = "Converse" if run.model.is_nova and run.kind != "grpo" else "S3Prefix"
    serverless: dict[str, Any] = {
        "BaseModelArn": recipe.model_arn,
        "JobType": "FineTuning",
        "CustomizationTechnique": run.method.technique,
    }
    if recipe.accept_eula:
        serverless["AcceptEula"] = True
    if run.job.adapter is not None:
        serverless["Peft"] = "LORA"
    if run.kind == "grpo":
        serverless["EvaluatorArn"] = evaluator
    if recipe.sequence_length:
        serverless["SequenceLength"] = recipe.sequence_length
    request: dict[str, Any] = {
        "TrainingJobName": submission.latest.name,
        "RoleArn": platform["roles/training"],
        "InputDataConfig": [
            channel(name, address, kind)
            for name, address in (("train", data.train), ("validation", data.validation))
            if address
        ],
        "OutputDataConfig": {
            "S3OutputPath": managed_output_uri(submission.run, platform),
            "KmsKeyId": platform["keys/models"],
            "CompressionType": "NONE",
        },
        "ServerlessJobConfig": serverless,
        "HyperParameters": hyperparameters(run, recipe.specification),
        "ModelPackageConfig": {"ModelPackageGroupArn": platform[PACKAGE_GROUP]},
        "StoppingCondition": {"MaxRuntimeInSeconds": max_runtime_s(run.job.resources, platform)},
        "VpcConfig": {
            "Subnets": platform.subnets,
            "SecurityGroupIds": platform.security_groups,
        },
        "Tags": job_tags(submission, platform),
    }
    if app := platform.get("training/mlflow-app"):
        request["MlflowConfig"] = {
            "MlflowResourceArn": app,
            "MlflowExperimentName": submission.run.partition("/")[0],
            "MlflowRunName": submission.latest.name,
        }
    return request


def hyperparameters(
    run: ManagedRun, specification: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Return the parameters of a recipe as text: a job's values, and the recipe's defaults."""
    values = {
        name: about["default"]
        for name, about in specification.items()
        if name not in _CHANNELS and about.get("default") is not None
    }
    return {name: str(value) for name, value in {**values, **run.parameters}.items()}


def channel(name: str, uri: str, kind: str = "S3Prefix") -> dict[str, Any]:
    """Return an input channel of a training job.

    Args:
        name: Name of the channel.
        uri: Address of its objects.
        kind: Type of the data, `S3DataType`.
    """
    source = {
        "S3DataType": kind,
        "S3Uri": uri,
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}
