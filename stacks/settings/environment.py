"""Settings of one deployment, as read from `environments/<env>.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from stacks.settings.base import AccountId, Email, SettingsSection, matching
from stacks.settings.bedrock import BedrockSettings
from stacks.settings.hyperpod import HyperPodSettings
from stacks.settings.images import ImageSettings
from stacks.settings.monitoring import MonitoringSettings
from stacks.settings.network import NetworkSettings
from stacks.settings.pipelines import PipelinesSettings
from stacks.settings.security import SecuritySettings
from stacks.settings.serving import ServingSection
from stacks.settings.storage import StorageSettings
from stacks.settings.training import TrainingSettings

# Checks against tables that age, or against what AWS does not document; see `table_checks`.
CheckName = Literal[
    "regions",
    "region-types",
    "instance-types",
    "instance-zones",
    "spot-on-slurm",
    "vpc-range",
    "kubernetes-versions",
]
Reason = Annotated[
    str,
    matching(r"\s*\S(?s:.{8,498})\S\s*", "a reason: write who says so, in 10 to 500 characters"),
]
Prefix = Annotated[
    str,
    matching(
        r"(?=.{2,20}$)[a-z](-?[a-z0-9])+",
        "a prefix of 2 to 20 lower-case letters, digits and single hyphens, like temper-dev",
    ),
]


class Environment(SettingsSection):
    """Settings of one deployment, each with a safe default.

    `prefix` begins the name of every resource that people or `launch` must find: buckets,
    parameters,
    repositories. No two environments of an account may share it.
    """

    name: Annotated[
        str,
        matching(
            r"[a-z][a-z0-9-]{0,15}", "a name of at most 16 lower-case letters, digits and hyphens"
        ),
    ] = Field(description="name of the file without .yaml")
    prefix: Prefix = Field(description="prefix of all physical names; unique in the account")
    region: str = Field(description="Region of all resources")
    account: AccountId | None = Field(
        None,
        description="the only account it may be deployed to; none: the account of the credentials",
    )
    owner: Email = Field(description="responsible team or person; a tag on every resource")
    cost_centre: str = Field(
        min_length=1, max_length=64, description="cost centre; a tag on every resource"
    )
    tags: dict[str, str] = Field(
        default_factory=dict, description="more tags, on every resource and every job"
    )
    protect: bool = Field(
        True,
        description="retain resources that hold data; enable termination protection of the stacks",
    )
    cdk_qualifier: Annotated[
        str, matching(r"[a-z0-9]{1,10}", "a qualifier of at most 10 lower-case letters and digits")
    ] = Field(
        "hnb659fds",
        description="qualifier of `cdk bootstrap`, if the account is bootstrapped with another one",
    )
    overrides: dict[CheckName, Reason] = Field(
        default_factory=dict,
        description="reasons, by check, to deploy although a table says no: `regions`, "
        "`region-types`, `instance-types`, `instance-zones`, `spot-on-slurm`, "
        "`vpc-range`, `kubernetes-versions`",
    )
    network: NetworkSettings
    security: SecuritySettings = SecuritySettings()
    storage: StorageSettings = StorageSettings()
    images: ImageSettings = ImageSettings()
    training: TrainingSettings = TrainingSettings()
    hyperpod: HyperPodSettings = HyperPodSettings()
    bedrock: BedrockSettings = BedrockSettings()
    serving: ServingSection = ServingSection()
    pipelines: PipelinesSettings = PipelinesSettings()
    monitoring: MonitoringSettings
