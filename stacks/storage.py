"""What is kept: data, runs, models, secrets and, with HyperPod, a shared file system."""

import re

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secrets
from constructs import Construct

from stacks.constructs.access_log_bucket import AccessLogBucket
from stacks.constructs.fsx_lustre import LinkedFsxLustre
from stacks.constructs.private_bucket import PrivateBucket
from stacks.constructs.ssm_parameters import publish
from stacks.network import NetworkStack
from stacks.policies.iam_statements import IamContext, secret_names
from stacks.settings import Environment
from stacks.settings.storage import ObjectLock
from stacks.temper_stack import TemperStack


class StorageStack(TemperStack):
    """Buckets, secrets and a file system. Nothing here is emptied by a deployment."""

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        estate: IamContext,
        network: NetworkStack,
    ) -> None:
        super().__init__(scope, "storage", environment=environment)
        settings = environment.storage
        self.access_logs = AccessLogBucket(
            self,
            "AccessLogs",
            names=self.names,
            days=settings.access_log_days,
            removal=self.removal,
        ).bucket
        self._estate = estate
        self.data = self._bucket("data", [_old_versions(30)])
        self.runs = self._bucket(
            "runs",
            [
                s3.LifecycleRule(
                    id="checkpoints",
                    tag_filters={"temper": "checkpoint"},
                    expiration=cdk.Duration.days(settings.checkpoint_days),
                ),
                s3.LifecycleRule(
                    id="checkpoint-folder",
                    prefix="checkpoints/",
                    expiration=cdk.Duration.days(settings.checkpoint_days),
                ),
                _old_versions(7),
            ],
        )
        self.models = self._bucket("models", _cheaper(settings.models_to_infrequent_access_days))
        self.lustre = self._file_system(network) if environment.hyperpod.enabled else None
        published = {
            "buckets/data": self.data.bucket_name,
            "buckets/runs": self.runs.bucket_name,
            "buckets/models": self.models.bucket_name,
        }
        for name in secret_names(settings):
            published[f"secrets/{name}"] = self._secret(name)
        if self.lustre:
            published["lustre/file-system"] = self.lustre.file_system.ref
        publish(self, self.names, published)

    def _bucket(self, kind: str, lifecycle: list[s3.LifecycleRule]) -> s3.Bucket:
        lock = self.environment_settings.storage.object_lock if kind == "models" else None
        return PrivateBucket(
            self,
            kind.title(),
            name=self.names.bucket(kind),
            key=self._estate.models if kind == "models" else self._estate.data,
            access_logs=self.access_logs,
            lifecycle=lifecycle,
            removal=self.removal,
            object_lock=_retention(lock),
        ).bucket

    def _secret(self, name: str) -> str:
        """Make a secret with a random value, until somebody puts the real one in; its name."""
        full = f"{self.names.prefix}/{name}"
        secrets.Secret(
            self,
            "".join(part.title() for part in re.split(r"[/_-]", name)),
            secret_name=full,
            description="Filled in by a person, with aws secretsmanager put-secret-value",
            encryption_key=self._estate.data,
            removal_policy=self.removal,
        )
        return full

    def _file_system(self, network: NetworkStack) -> LinkedFsxLustre:
        return LinkedFsxLustre(
            self,
            "Lustre",
            settings=self.environment_settings.storage.lustre,
            subnet=network.subnets[0],
            group=network.nodes,
            key=self._estate.data,
            bucket=self.data,
            removal=self.removal,
        )


def _old_versions(days: int) -> s3.LifecycleRule:
    return s3.LifecycleRule(
        id="old-versions", noncurrent_version_expiration=cdk.Duration.days(days)
    )


def _cheaper(days: int) -> list[s3.LifecycleRule]:
    return [
        s3.LifecycleRule(
            id="cheaper",
            transitions=[
                s3.Transition(
                    storage_class=s3.StorageClass.INFREQUENT_ACCESS,
                    transition_after=cdk.Duration.days(days),
                ),
                s3.Transition(
                    storage_class=s3.StorageClass.GLACIER_INSTANT_RETRIEVAL,
                    transition_after=cdk.Duration.days(days + 120),
                ),
            ],
        )
    ]


def _retention(lock: ObjectLock | None) -> s3.ObjectLockRetention | None:
    if lock is None:
        return None
    period = cdk.Duration.days(lock.days)
    if lock.mode == "compliance":
        return s3.ObjectLockRetention.compliance(period)
    return s3.ObjectLockRetention.governance(period)
