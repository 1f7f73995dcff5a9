"""Settings of serving: who pays for how long, and the deployments that are code."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from stacks.settings.base import InstanceType, SettingsSection, matching
from stacks.settings.bedrock import ModelId
from stacks.settings.golden import GoldenSection
from stacks.settings.training import InstanceTypePattern

# docs.aws.amazon.com/sagemaker/latest/APIReference/API_ContainerDefinition.html
LONGEST_VARIABLE = 1024
DeploymentName = Annotated[
    str,
    matching(
        r"(?=.{2,30}$)[a-z](-?[a-z0-9])+",
        "a name of 2 to 30 lower-case letters, digits and single hyphens, like assistant",
    ),
]
ModelVersion = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}@[0-9A-Za-z][0-9A-Za-z.+-]{0,62}",
        "a version of a registered model, like assistant@1.2.0",
    ),
]
Digest = Annotated[
    str,
    matching(
        r"[0-9a-f]{64}",
        "the digest of a form of the version: the 64 hexadecimal digits that follow "
        "registry/sha256/ in its address, as its model package shows it",
    ),
]
ImageDigest = Annotated[
    str,
    matching(r"sha256:[0-9a-f]{64}", "the digest of an image, like sha256:0123… (64 digits)"),
]


def _text_of_time(value: Any) -> Any:
    """Return the text of a time that YAML has read as one."""
    return value.isoformat() if isinstance(value, date) else value


def _time_in_utc(value: str) -> str:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(
            f"{value!r} is not a time; write one in UTC, like 2026-12-31T18:00:00Z, or a date"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


EndTime = Annotated[str, BeforeValidator(_text_of_time), AfterValidator(_time_in_utc)]


class DeploymentEnd(SettingsSection):
    """End of a deployment: a time, hours without calls, both, or none with a reason."""

    until: EndTime | None = Field(None, description="time in UTC at which it is removed")
    idle_hours: int | None = Field(
        None, ge=1, le=168, description="hours without calls after which it is removed"
    )
    forever: (
        Annotated[
            str,
            # The characters of a tag's value.
            matching(
                r"[\w .:/=+@-]{10,256}",
                "a reason of 10 to 256 letters, digits, spaces and _ . : / = + - @",
            ),
        ]
        | None
    ) = Field(None, description="reason for which it has no end")


class Shifting(SettingsSection):
    """Shift of the traffic to a new version, and what rolls it back."""

    how: Literal["canary", "linear", "all-at-once"] = "canary"
    percent: int = Field(
        10, ge=5, le=50, description="size of the canary, or of a linear step, in percent"
    )
    wait_minutes: int = Field(
        10, ge=1, le=60, description="minutes between two steps, in which an alarm rolls back"
    )
    keep_minutes: int = Field(
        10, ge=0, le=60, description="minutes for which the old instances are kept"
    )
    max_errors_percent: float = Field(
        1.0, gt=0, le=100, description="share of server errors that rolls back"
    )
    max_latency_ms: int = Field(
        10_000, ge=1, description="95th percentile of the model latency that rolls back"
    )


class ScalingSettings(SettingsSection):
    """Limits of the number of instances (variant) or copies (component)."""

    min: int = Field(1, ge=0, le=1000, description="0 requires `to: component`")
    max: int = Field(1, ge=1, le=1000)
    calls_per_minute: int = Field(
        60, ge=1, description="calls per instance or copy and minute that scaling aims at"
    )


class Capture(SettingsSection):
    """Capture of prompts and answers in the runs bucket."""

    percent: int = Field(100, ge=1, le=100, description="share of the calls that is captured")


class WatchJudge(SettingsSection):
    """Judge that rates a sample of the captured answers of each window."""

    model: ModelId
    judged: int = Field(20, ge=1, le=200, description="answers of a window that are judged")
    max_usd: float = Field(gt=0, description="most US dollars of one job")


class Watch(SettingsSection):
    """Comparison of captured calls with the training set, by a processing job on a schedule."""

    image: ImageDigest
    instance: InstanceType = "ml.m5.large"
    every_hours: int = Field(
        24,
        ge=1,
        le=84,
        description="hours of a window; an alarm looks at two of them in seven days",
    )
    flagged: int = Field(2, ge=1, le=10, description="windows that raise the alarm")
    of: int = Field(3, ge=1, le=10, description="last windows that are looked at")
    judge: WatchJudge | None = None


class Shadow(SettingsSection):
    """Second model that receives copies of the calls, and whose answers no caller gets."""

    model: ModelVersion
    files: Digest
    instance: InstanceType | None = Field(None, description="that of the deployment if none")
    percent: int = Field(10, ge=1, le=100, description="share of the calls that is copied")


class Needs(SettingsSection):
    """Part of an instance that one copy of a component gets."""

    memory_mib: int = Field(ge=128)
    accelerators: int = Field(0, ge=0)
    cpus: float | None = Field(None, gt=0)


class DeploymentSettings(SettingsSection):
    """Endpoint of one registered model."""

    name: DeploymentName
    model: ModelVersion
    files: Digest
    to: Literal["variant", "component"] = "variant"
    image: ImageDigest
    image_kind: Literal["serve", "serve-gpu"] = "serve"
    instance: InstanceType
    inference_ami: str | None = None
    scaling: ScalingSettings = ScalingSettings()
    needs: Needs | None = None
    shifting: Shifting = Shifting()
    capture: Capture | None = None
    watch: Watch | None = None
    golden: GoldenSection | None = None
    shadow: Shadow | None = None
    variables: dict[str, str] = Field(default_factory=dict)
    monthly_usd: int = Field(ge=1)
    end: DeploymentEnd


class ServingSection(SettingsSection):
    """Settings of the serving stack, and of one stack per deployment."""

    enabled: bool = Field(
        False,
        description="create the serving stack: security group, removal of what is idle or past its "
        "end, and the roles of endpoints and of model deployers",
    )
    allowed_instance_types: tuple[InstanceTypePattern, ...] = Field(
        (),
        description="instance types of endpoints (`ml.g5.2xlarge`, or a family: `ml.g5.*`), which "
        "IAM enforces for the model deployer role; none: all",
    )
    log_days: int = Field(
        90, ge=1, le=3653, description="retention of the logs of endpoints, in days"
    )
    deployments: tuple[DeploymentSettings, ...] = Field(
        (),
        description="endpoints as code, a stack each: `{name, model, files, to, image, image_kind, "
        "instance, scaling, needs, shifting, capture, watch, golden, shadow, variables, "
        "monthly_usd, end}`; see [serving](serving.md)",
    )
