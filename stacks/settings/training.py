"""Settings of the prerequisites of SageMaker jobs."""

from typing import Annotated, Literal

from pydantic import Field

from stacks.settings.base import AccountId, LogDays, SettingsSection, matching

# Longest and default run time of a job:
# docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html
LONGEST_RUNTIME_HOURS = 28 * 24
DEFAULT_RUNTIME_HOURS = 24
InstanceTypePattern = Annotated[
    str,
    matching(
        r"ml\.[a-z0-9-]+\.([a-z0-9]+|\*)",
        "an instance type of SageMaker, like ml.g5.2xlarge, or a family, like ml.g5.*",
    ),
]


class TrainingSettings(SettingsSection):
    """Settings of the job log groups, MLflow and the model registry."""

    log_days: LogDays = Field(90, description="retention of job logs, in days")
    own_log_group: bool = Field(
        True,
        description="create the job log groups; false if another stack of the account owns them",
    )
    mlflow: bool = Field(False, description="create the MLflow app of the account")
    managed_customization: bool = Field(
        False,
        description="let engineers train by managed customization (Bedrock, serverless SageMaker) "
        "and on the weights of JumpStart; creates the roles of Bedrock and of graders",
    )
    registry_readers: tuple[AccountId, ...] = Field(
        (),
        description="accounts with read access to the model registry and the files of its versions",
    )
    model_approval: Literal["required", "none"] = Field(
        "required",
        description="required: only a role of `security.model_approvers` approves versions in the "
        "model registry; none: engineers, too",
    )
    allowed_instance_types: tuple[InstanceTypePattern, ...] = Field(
        (),
        description="instance types of jobs (`ml.g5.2xlarge`, or a family: `ml.g5.*`), which IAM "
        "enforces for the engineer role; none: all",
    )
    max_runtime_hours: int = Field(
        LONGEST_RUNTIME_HOURS,
        ge=1,
        le=LONGEST_RUNTIME_HOURS,
        description="longest `resources.max_runtime` of a job, in hours, which IAM enforces for "
        "the engineer role",
    )
