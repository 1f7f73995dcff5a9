"""S3 bucket that is encrypted, private, versioned, logged and accessible over TLS only."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct


class PrivateBucket(Construct):
    """Bucket of the platform. A deployment never empties it."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        key: kms.IKey,
        access_logs: s3.IBucket,
        lifecycle: Sequence[s3.LifecycleRule],
        removal: cdk.RemovalPolicy,
        object_lock: s3.ObjectLockRetention | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=name,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="abandoned-uploads",
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(7),
                ),
                *lifecycle,
            ],
            object_lock_enabled=object_lock is not None or None,
            object_lock_default_retention=object_lock,
            removal_policy=removal,
        )
        self.bucket.add_to_resource_policy(_deny_other_keys(self.bucket, key))
        for statement in _deny_other_encryption(self.bucket):
            self.bucket.add_to_resource_policy(statement)
        # Set on the resource: with the L2 property, CDK would add a second statement to the policy
        # of the log bucket, which AccessLogBucket already grants for all buckets.
        resource = self.bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)
        resource.logging_configuration = s3.CfnBucket.LoggingConfigurationProperty(
            destination_bucket_name=access_logs.bucket_name, log_file_prefix=f"{id.lower()}/"
        )


def _deny_other_keys(bucket: s3.Bucket, key: kms.IKey) -> cdk.aws_iam.PolicyStatement:
    """Return the statement that denies uploads which name another KMS key.

    An upload that names no key is encrypted with the default key of the bucket. The `Null`
    condition is
    needed because a negated operator also matches a request without the header.
    """
    return cdk.aws_iam.PolicyStatement(
        sid="OnlyOurKey",
        effect=cdk.aws_iam.Effect.DENY,
        principals=[cdk.aws_iam.AnyPrincipal()],
        actions=["s3:PutObject"],
        resources=[bucket.arn_for_objects("*")],
        conditions={
            "StringNotEqualsIfExists": {
                "s3:x-amz-server-side-encryption-aws-kms-key-id": key.key_arn
            },
            "Null": {"s3:x-amz-server-side-encryption-aws-kms-key-id": "false"},
        },
    )


def _deny_other_encryption(bucket: s3.Bucket) -> list[cdk.aws_iam.PolicyStatement]:
    """Return the statements that deny uploads which ask for encryption without KMS.

    An upload can override the default of the bucket with keys of S3 (`AES256`) or with a key of the
    caller (SSE-C); neither names a KMS key, so the statement about other keys does not apply.
    docs.aws.amazon.com/AmazonS3/latest/userguide/UsingServerSideEncryption.html
    """
    encryption = "s3:x-amz-server-side-encryption"
    conditions: dict[str, dict[str, dict[str, object]]] = {
        "OnlyKms": {
            "StringNotEquals": {encryption: ["aws:kms", "aws:kms:dsse"]},
            "Null": {encryption: "false"},
            # CloudTrail writes the digests of its trail with keys of S3, as a service.
            "BoolIfExists": {"aws:PrincipalIsAWSService": "false"},
        },
        "NoCustomerKey": {"Null": {f"{encryption}-customer-algorithm": "false"}},
    }
    return [
        cdk.aws_iam.PolicyStatement(
            sid=sid,
            effect=cdk.aws_iam.Effect.DENY,
            principals=[cdk.aws_iam.AnyPrincipal()],
            actions=["s3:PutObject"],
            resources=[bucket.arn_for_objects("*")],
            conditions=condition,
        )
        for sid, condition in conditions.items()
    ]
