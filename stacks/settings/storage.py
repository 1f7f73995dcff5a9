"""What is kept, for how long, and what cannot be deleted."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stacks.settings.base import SettingsSection

KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]


class ObjectLock(SettingsSection):
    """Write-once-read-many on the models bucket. It cannot be taken off a bucket again."""

    mode: Literal["governance", "compliance"] = "governance"
    days: int = Field(30, ge=1, le=36500)


class Lustre(SettingsSection):
    """The file system that HyperPod nodes mount; made only when HyperPod is on."""

    capacity_gib: int = Field(
        1200, ge=1200, multiple_of=1200, description="grows in place, never shrinks"
    )
    throughput_mbps_per_tib: Literal[125, 250, 500, 1000] = Field(
        125, description="throughput per TiB"
    )
    efa: bool = Field(False, description="Lustre over EFA")


class StorageSettings(SettingsSection):
    """Buckets, the shared file system, and secrets that people fill in."""

    checkpoint_days: int = Field(30, ge=1, description="a checkpoint is deleted after this many")
    models_to_infrequent_access_days: int = Field(
        60,
        ge=30,
        description="models get cheaper then; 120 days later, Glacier Instant Retrieval",
    )
    access_log_days: int = Field(90, ge=1, description="how long bucket access logs are kept")
    object_lock: ObjectLock | None = Field(
        None,
        description="`{mode: governance or compliance, days}` on models; stays for ever",
    )
    hub_token: bool = Field(True, description="a secret for the model hub, filled in by a person")
    keys: tuple[KeyName, ...] = Field(
        (),
        description="keys of endpoints that jobs call, each by the environment variable it is read "
        "from (`JUDGE_KEY`) and each a secret that a person fills in",
    )
    lustre: Lustre = Lustre()
