"""Serverless MLflow app, which stores its artifacts in the runs bucket."""

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.constructs.service_role import ServiceRole
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext, allow, use_key, write_bucket


class MlflowApp(Construct):
    """MLflow app, its role, and the policies of those who use it.

    The policies are here because the id of the app, which is part of its ARN, is known only after
    its creation. Two permissions admit to the app: `sagemaker:CallMlflowAppApi` to its interface,
    `sagemaker-mlflow` to each operation; people need a presigned URL to open it in a browser.
    docs.aws.amazon.com/sagemaker/latest/dg/mlflow-app-setup-prerequisites-iam.html

    CloudFormation has no property for a KMS key of the app; the artifacts are encrypted by the
    bucket.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        bucket: s3.IBucket,
        engineer_roles: Sequence[iam.IRole],
        job_roles: Sequence[iam.IRole],
    ) -> None:
        super().__init__(scope, id)
        role: iam.IRole = ServiceRole(
            self,
            "Role",
            service="sagemaker.amazonaws.com",
            description="Lets MLflow keep artifacts and register models",
            source_arns=[names.arn("sagemaker", "*")],
            statements=[
                *write_bucket(context, "runs"),
                use_key(context.data, "Data"),
                allow(
                    "Register",
                    ["sagemaker:AddTags", "sagemaker:CreateModelPackage"],
                    [names.arn("sagemaker", "model-package/*")],
                ),
            ],
        ).role
        self.app = sagemaker.CfnMlflowApp(
            self,
            "App",
            name=f"{names.prefix}-mlflow",
            artifact_store_uri=f"s3://{bucket.bucket_name}/mlflow",
            role_arn=role.role_arn,
            model_registration_mode="AutoModelRegistrationDisabled",
        )
        use = ["sagemaker:CallMlflowAppApi", "sagemaker-mlflow:*"]
        iam.ManagedPolicy(
            self,
            "Track",
            roles=list(job_roles),
            statements=[allow("Track", use, [self.app.attr_arn])],
        )
        iam.ManagedPolicy(
            self,
            "Open",
            roles=list(engineer_roles),
            statements=[
                allow(
                    "Open",
                    [
                        *use,
                        "sagemaker:CreatePresignedMlflowAppUrl",
                        "sagemaker:DescribeMlflowApp",
                    ],
                    [self.app.attr_arn],
                )
            ],
        )
