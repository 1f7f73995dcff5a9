"""What SageMaker jobs find ready."""

from pydantic import Field

from stacks.settings.section import AccountId, Section


class TrainingSettings(Section):
    """Log group, MLflow, the model registry."""

    log_days: int = Field(90, ge=1, le=3653)
    own_log_group: bool = Field(
        True, description="false where another stack of the account already owns it"
    )
    mlflow: bool = False
    registry_readers: tuple[AccountId, ...] = ()
