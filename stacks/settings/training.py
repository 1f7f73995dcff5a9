"""Settings of the prerequisites of SageMaker jobs."""

from pydantic import Field

from stacks.settings.base import AccountId, SettingsSection


class TrainingSettings(SettingsSection):
    """Settings of the job log groups, MLflow and the model registry."""

    log_days: int = Field(90, ge=1, le=3653, description="retention of job logs, in days")
    own_log_group: bool = Field(
        True,
        description="create the job log groups; false if another stack of the account owns them",
    )
    mlflow: bool = Field(False, description="create the MLflow app of the account")
    registry_readers: tuple[AccountId, ...] = Field(
        (), description="accounts with read access to the model registry"
    )
