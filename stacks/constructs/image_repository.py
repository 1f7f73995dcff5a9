"""ECR repository with immutable tags, scan on push, encryption and a lifecycle policy."""

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_kms as kms
from constructs import Construct


class ImageRepository(Construct):
    """Repository of the images of one kind."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        key: kms.IKey,
        keep: int,
        removal: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id)
        self.repository = ecr.Repository(
            self,
            "Repository",
            repository_name=name,
            encryption=ecr.RepositoryEncryption.KMS,
            encryption_key=key,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            image_scan_on_push=True,
            lifecycle_rules=[
                ecr.LifecycleRule(
                    description="untagged images go after a week",
                    tag_status=ecr.TagStatus.UNTAGGED,
                    max_image_age=cdk.Duration.days(7),
                ),
                ecr.LifecycleRule(
                    description=f"the last {keep} stay",
                    tag_status=ecr.TagStatus.ANY,
                    max_image_count=keep,
                ),
            ],
            removal_policy=removal,
        )
