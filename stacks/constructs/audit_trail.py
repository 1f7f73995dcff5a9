"""CloudTrail trail with management events, and every read and write of a model."""

import aws_cdk as cdk
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.encrypted_log_group import EncryptedLogGroup
from stacks.constructs.private_bucket import PrivateBucket
from stacks.constructs.service_role import ServiceRole
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext, allow

Trail = cloudtrail.CfnTrail


class AuditTrail(Construct):
    """Trail with management events, and the data events of the models bucket and of Bedrock."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        models: s3.IBucket,
        access_logs: s3.IBucket,
        days: int,
        removal: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id)
        trail_arn = names.arn("cloudtrail", f"trail/{names.prefix}-trail")
        bucket = PrivateBucket(
            self,
            "Trail",
            name=names.bucket("trail"),
            key=context.logs,
            access_logs=access_logs,
            lifecycle=[s3.LifecycleRule(id="expire", expiration=cdk.Duration.days(days))],
            removal=removal,
        ).bucket
        for statement in _bucket_statements(bucket, names, trail_arn):
            bucket.add_to_resource_policy(statement)
        group = EncryptedLogGroup(self, "Log", key=context.logs, days=days, removal=removal).group
        writer = ServiceRole(
            self,
            "Writer",
            service="cloudtrail.amazonaws.com",
            description="Writes the trail to CloudWatch Logs",
            source_arns=[trail_arn],
            statements=[
                allow("Write", ["logs:CreateLogStream", "logs:PutLogEvents"], [group.log_group_arn])
            ],
        ).role
        trail = Trail(
            self,
            "CloudTrail",
            trail_name=f"{names.prefix}-trail",
            is_logging=True,
            is_multi_region_trail=True,
            include_global_service_events=True,
            enable_log_file_validation=True,
            s3_bucket_name=bucket.bucket_name,
            kms_key_id=context.logs.key_arn,
            cloud_watch_logs_log_group_arn=group.log_group_arn,
            cloud_watch_logs_role_arn=writer.role_arn,
            advanced_event_selectors=[
                _event_selector("management", "Management"),
                _event_selector(
                    "models bucket", "Data", "AWS::S3::Object", f"{models.bucket_arn}/"
                ),
                _event_selector("Bedrock models", "Data", "AWS::Bedrock::Model"),
            ],
        )
        # CloudTrail verifies at creation that it may write to the bucket.
        if bucket.policy:
            trail.node.add_dependency(bucket.policy)


def _event_selector(
    name: str, category: str, kind: str | None = None, within: str | None = None
) -> cloudtrail.CfnTrail.AdvancedEventSelectorProperty:
    fields = [Trail.AdvancedFieldSelectorProperty(field="eventCategory", equal_to=[category])]
    if kind:
        fields.append(Trail.AdvancedFieldSelectorProperty(field="resources.type", equal_to=[kind]))
    if within:
        fields.append(
            Trail.AdvancedFieldSelectorProperty(field="resources.ARN", starts_with=[within])
        )
    return Trail.AdvancedEventSelectorProperty(name=name, field_selectors=fields)


def _bucket_statements(
    bucket: s3.Bucket, names: ResourceNames, trail: str
) -> list[iam.PolicyStatement]:
    service = iam.ServicePrincipal("cloudtrail.amazonaws.com")
    from_this_trail = {"StringEquals": {"aws:SourceArn": trail}}
    return [
        iam.PolicyStatement(
            sid="TrailLooks",
            principals=[service],
            actions=["s3:GetBucketAcl"],
            resources=[bucket.bucket_arn],
            conditions=from_this_trail,
        ),
        iam.PolicyStatement(
            sid="TrailWrites",
            principals=[service],
            actions=["s3:PutObject"],
            resources=[bucket.arn_for_objects(f"AWSLogs/{names.account}/*")],
            conditions=from_this_trail,
        ),
    ]
