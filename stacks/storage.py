"""Stack of persistent data: buckets, secrets and, with HyperPod, a Lustre file system."""

import re
from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secrets
from constructs import Construct

from stacks.constructs.access_log_bucket import AccessLogBucket
from stacks.constructs.fsx_lustre import LinkedFsxLustre
from stacks.constructs.private_bucket import PrivateBucket
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.network import NetworkStack
from stacks.policies.engineer import REGISTERED_MODELS
from stacks.policies.iam_statements import IamContext, secret_names
from stacks.settings import Environment
from stacks.settings.placement import lustre_zone
from stacks.settings.storage import ObjectLock
from stacks.temper_stack import TemperStack


class StorageStack(TemperStack):
    """Stack with buckets, secrets and a file system. No deployment empties any of them."""

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        context: IamContext,
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
            other_buckets=[self.names.lifecycle_bucket] if environment.hyperpod.on_slurm else [],
        ).bucket
        self._context = context
        self.data: s3.IBucket = (
            s3.Bucket.from_bucket_name(self, "Data", settings.data_bucket.name)
            if settings.data_bucket
            else self._create_bucket(
                "data",
                [
                    s3.LifecycleRule(
                        id="uploads",
                        prefix="uploads/",
                        expiration=cdk.Duration.days(settings.upload_days),
                    ),
                    _expire_old_versions(30),
                ],
            )
        )
        if environment.pipelines.retraining and not settings.data_bucket:
            self._publish_new_objects(self.data)
        self.runs = self._create_bucket(
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
                _expire_old_versions(7),
            ],
        )
        self.models = self._create_bucket(
            "models", _archive_rules(settings.models_to_infrequent_access_days)
        )
        if readers := environment.training.registry_readers:
            for statement in _registry_readers(self.models, readers):
                self.models.add_to_resource_policy(statement)
        self.lustre = self._create_file_system(network) if environment.hyperpod.enabled else None
        parameters = {
            "buckets/data": self.data.bucket_name,
            "buckets/runs": self.runs.bucket_name,
            "buckets/models": self.models.bucket_name,
            **({} if settings.data_bucket else {"storage/upload-days": str(settings.upload_days)}),
        }
        for name in secret_names(settings):
            parameters[f"secrets/{name}"] = self._create_secret(name)
        if self.lustre:
            parameters["lustre/file-system"] = self.lustre.file_system.ref
        publish_parameters(self, self.names, parameters)

    def _create_bucket(self, kind: str, lifecycle: list[s3.LifecycleRule]) -> s3.Bucket:
        lock = self.environment_settings.storage.object_lock if kind == "models" else None
        return PrivateBucket(
            self,
            kind.title(),
            name=self.names.bucket(kind),
            key=self._context.models if kind == "models" else self._context.data,
            access_logs=self.access_logs,
            lifecycle=lifecycle,
            removal=self.removal,
            object_lock=_retention(lock),
        ).bucket

    def _publish_new_objects(self, bucket: s3.IBucket) -> None:
        """Send an event for each new object, which rules of pipelines match by its key.

        Set on the resource: for the L2 property, CDK would add a function of its own.
        """
        resource = bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)
        resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                event_bridge_enabled=True
            )
        )

    def _create_secret(self, name: str) -> str:
        """Create a secret and return its name.

        CloudFormation generates a random value; a person replaces it with the real one.
        """
        full = f"{self.names.prefix}/{name}"
        secrets.Secret(
            self,
            "".join(part.title() for part in re.split(r"[/_-]", name)),
            secret_name=full,
            description="Filled in by a person, with aws secretsmanager put-secret-value",
            encryption_key=self._context.data,
            removal_policy=self.removal,
        )
        return full

    def _create_file_system(self, network: NetworkStack) -> LinkedFsxLustre:
        return LinkedFsxLustre(
            self,
            "Lustre",
            settings=self.environment_settings.storage.lustre,
            subnet=network.subnet_by_zone[lustre_zone(self.environment_settings)],
            group=network.nodes,
            key=self._context.data,
            bucket=self.data,
            export=self.environment_settings.storage.data_bucket is None,
            removal=self.removal,
        )


def _registry_readers(bucket: s3.Bucket, accounts: Sequence[str]) -> list[iam.PolicyStatement]:
    """Return the statements that let other accounts read the files of registered models.

    Args:
        bucket: Bucket of models.
        accounts: The accounts; the policies of their own identities must allow the same.
    """
    principals = [iam.AccountPrincipal(account) for account in accounts]
    return [
        iam.PolicyStatement(
            sid="OtherAccountsRead",
            principals=principals,
            actions=["s3:GetObject", "s3:GetObjectVersion"],
            resources=[bucket.arn_for_objects(REGISTERED_MODELS)],
        ),
        iam.PolicyStatement(
            sid="OtherAccountsList",
            principals=principals,
            actions=["s3:ListBucket"],
            resources=[bucket.bucket_arn],
            conditions={"StringLike": {"s3:prefix": REGISTERED_MODELS}},
        ),
    ]


def _expire_old_versions(days: int) -> s3.LifecycleRule:
    return s3.LifecycleRule(
        id="old-versions", noncurrent_version_expiration=cdk.Duration.days(days)
    )


def _archive_rules(days: int) -> list[s3.LifecycleRule]:
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
