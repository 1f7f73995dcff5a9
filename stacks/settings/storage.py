"""Settings of persistent data: retention, object lock, secrets and the file system."""

from typing import Annotated, Literal

from pydantic import Field

from stacks.settings.base import KmsKeyArn, SettingsSection, matching
from stacks.settings.network import ZoneName

KeyName = Annotated[
    str,
    matching(
        r"[A-Z][A-Z0-9_]{0,63}",
        "the name of an environment variable in capitals, like JUDGE_KEY",
    ),
]


class ObjectLock(SettingsSection):
    """Write-once-read-many lock of the models bucket. It cannot be removed from a bucket."""

    mode: Literal["governance", "compliance"] = "governance"
    days: int = Field(30, ge=1, le=36500)


class Lustre(SettingsSection):
    """File system that HyperPod nodes mount, created only with HyperPod."""

    capacity_gib: int = Field(
        1200,
        ge=1200,
        description="capacity of the file system, 1200 or a multiple of 2400; it can grow but not "
        "shrink",
    )
    throughput_mbps_per_tib: Literal[125, 250, 500, 1000] = Field(
        125, description="throughput in MB/s per TiB"
    )
    efa: bool = Field(False, description="access Lustre over EFA")
    zone: ZoneName | None = Field(
        None,
        description="zone of the file system; fixed once it exists. none: the zone of the training "
        "plan, or of the group with most accelerators",
    )


BucketName = Annotated[
    str,
    matching(
        r"(?!xn--|sthree-|amzn-s3-demo-)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
        "the name of a bucket of 3 to 63 lower-case letters, digits and hyphens (no dots, which "
        "TLS certificates of S3 do not cover)",
    ),
]


class DataBucket(SettingsSection):
    """Bucket of training data that exists. Its policy, key and life cycle are its owner's."""

    name: BucketName
    kms_key_arn: KmsKeyArn | None = None


class StorageSettings(SettingsSection):
    """Settings of the buckets, the shared file system and the secrets that people fill in."""

    data_bucket: DataBucket | None = Field(
        None,
        description="use a bucket of training data that exists: `{name, kms_key_arn}`; see "
        "[Your own data bucket](existing-resources.md#your-own-data-bucket)",
    )
    upload_days: int = Field(
        180,
        ge=60,
        le=36500,
        description="days after which files that the launcher copied to `uploads/` of the data "
        "bucket are deleted; it copies them again after half of that time",
    )
    checkpoint_days: int = Field(30, ge=1, description="days after which a checkpoint is deleted")
    models_to_infrequent_access_days: int = Field(
        60,
        ge=30,
        le=36500,
        description="days until models move to Infrequent Access; 120 days later, to Glacier "
        "Instant Retrieval",
    )
    access_log_days: int = Field(90, ge=1, description="retention of bucket access logs, in days")
    object_lock: ObjectLock | None = Field(
        None,
        description="object lock of the models bucket, `{mode: governance or compliance, days}`; "
        "it cannot be removed later",
    )
    hub_token: bool = Field(
        True, description="create a secret for the token of the model hub, which a person fills in"
    )
    keys: tuple[KeyName, ...] = Field(
        (),
        description="API keys of endpoints that jobs call, named by environment variable "
        "(`JUDGE_KEY`); "
        "each is a secret that a person fills in",
    )
    lustre: Lustre = Lustre()
