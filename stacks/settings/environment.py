"""One deployment: what `environments/<env>.yaml` becomes."""

from typing import Annotated

from pydantic import Field, StringConstraints

from stacks.settings.base import AccountId, Email, SettingsSection
from stacks.settings.bedrock import BedrockSettings
from stacks.settings.hyperpod import HyperPodSettings
from stacks.settings.images import ImageSettings
from stacks.settings.monitoring import MonitoringSettings
from stacks.settings.network import NetworkSettings
from stacks.settings.security import SecuritySettings
from stacks.settings.storage import StorageSettings
from stacks.settings.training import TrainingSettings

Prefix = Annotated[str, StringConstraints(pattern=r"^[a-z](-?[a-z0-9]){1,19}$", max_length=20)]


class Environment(SettingsSection):
    """Every switch of one deployment, with its safe default.

    `prefix` begins the name of everything that people or `launch` must find: buckets, parameters,
    repositories. No two environments of an account may share it.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,15}$")] = Field(
        description="the file's name without .yaml"
    )
    prefix: Prefix = Field(
        description="begins every name that somebody must find; unique in the account"
    )
    region: str = Field(description="where everything is made")
    account: AccountId | None = Field(
        None,
        description="the only account it may be deployed to; none: the credentials' own",
    )
    owner: Email = Field(description="who answers for it; a tag on everything")
    cost_centre: str = Field(
        min_length=1, max_length=64, description="who pays; a tag on everything"
    )
    protect: bool = Field(
        True, description="keep what holds data when a stack goes; refuse to delete a stack"
    )
    network: NetworkSettings
    security: SecuritySettings = SecuritySettings()
    storage: StorageSettings = StorageSettings()
    images: ImageSettings = ImageSettings()
    training: TrainingSettings = TrainingSettings()
    hyperpod: HyperPodSettings = HyperPodSettings()
    bedrock: BedrockSettings = BedrockSettings()
    monitoring: MonitoringSettings
