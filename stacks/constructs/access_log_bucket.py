"""Bucket that receives the server access logs of all other buckets."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.naming import ResourceNames


class AccessLogBucket(Construct):
    """Bucket encrypted with S3-managed keys.

    S3 does not deliver server access logs to a bucket whose default encryption is a
    customer-managed
    KMS key.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        days: int,
        removal: cdk.RemovalPolicy,
        other_buckets: Sequence[str] = (),
    ) -> None:
        super().__init__(scope, id)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=names.bucket("access-logs"),
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="expire",
                    expiration=cdk.Duration.days(days),
                    noncurrent_version_expiration=cdk.Duration.days(7),
                )
            ],
            removal_policy=removal,
        )
        # One statement for the buckets of all stacks, matched by name. The statement that CDK
        # generates for a bucket in another stack has no source condition.
        sources = [
            f"arn:{Aws.PARTITION}:s3:::{name}" for name in (names.bucket("*"), *other_buckets)
        ]
        self.bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid="OurBucketsLog",
                principals=[iam.ServicePrincipal("logging.s3.amazonaws.com")],
                actions=["s3:PutObject"],
                resources=[self.bucket.arn_for_objects("*")],
                conditions={
                    "StringEquals": {"aws:SourceAccount": names.account},
                    "ArnLike": {"aws:SourceArn": _one_or_list(sources)},
                },
            )
        )


def _one_or_list(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values
