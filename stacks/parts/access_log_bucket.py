"""The bucket that other buckets log their accesses to."""

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct


class AccessLogBucket(Construct):
    """Encrypted by S3 itself: server access logs cannot be delivered under a customer's key."""

    def __init__(
        self, scope: Construct, id: str, *, name: str, days: int, removal: cdk.RemovalPolicy
    ) -> None:
        super().__init__(scope, id)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=name,
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
