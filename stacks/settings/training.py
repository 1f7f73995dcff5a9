"""What SageMaker jobs find ready."""

from pydantic import Field

from stacks.settings.base import AccountId, SettingsSection


class TrainingSettings(SettingsSection):
    """Log group, MLflow, the model registry."""

    log_days: int = Field(90, ge=1, le=3653, description="how long job logs are kept")
    own_log_group: bool = Field(
        True, description="false where another stack of the account already owns it"
    )
    mlflow: bool = Field(False, description="the account's MLflow app")
    registry_readers: tuple[AccountId, ...] = Field(
        (), description="accounts that may read the model registry"
    )
