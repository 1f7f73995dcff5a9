"""Stack of the prerequisites of SageMaker jobs, published as SSM parameters for `launch`."""

from typing import Any

from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.constructs.encrypted_log_group import EncryptedLogGroup
from stacks.constructs.job_vpc_guardrails import JobVpcGuardrails
from stacks.constructs.mlflow_app import MlflowApp
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.network import NetworkStack
from stacks.policies.managed_customization import grader_log_group
from stacks.security import SecurityStack
from stacks.settings import Environment
from stacks.storage import StorageStack
from stacks.temper_stack import TemperStack

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
# SageMaker would create these itself, without a KMS key and without a retention period.
OTHER_LOG_GROUPS = ("/aws/sagemaker/ProcessingJobs", "/aws/sagemaker/TransformJobs")


class TrainingStack(TemperStack):
    """Stack with the job log groups, the VPC guardrails, MLflow and the model registry."""

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        security: SecurityStack,
        network: NetworkStack,
        storage: StorageStack,
    ) -> None:
        super().__init__(scope, "training", environment=environment)
        settings = environment.training
        if settings.own_log_group:
            for name in (LOG_GROUP, *OTHER_LOG_GROUPS):
                EncryptedLogGroup(
                    self,
                    name.rpartition("/")[2],
                    name=name,
                    key=security.context.logs,
                    days=settings.log_days,
                    removal=self.removal,
                )
        if settings.managed_customization:
            EncryptedLogGroup(
                self,
                "Graders",
                name=grader_log_group(self.names),
                key=security.context.logs,
                days=settings.log_days,
                removal=self.removal,
            )
        JobVpcGuardrails(
            self,
            "Fences",
            names=self.names,
            subnets=network.subnets,
            group=network.nodes,
            engineer_roles=[security.engineer_role],
            job_roles=security.job_roles,
        )
        parameters = {
            "training/log-group": LOG_GROUP,
            "training/encrypt-traffic": str(
                environment.security.inter_container_encryption
            ).lower(),
            "training/max-runtime-hours": str(settings.max_runtime_hours),
            "training/model-package-group": self._create_registry(),
        }
        if settings.allowed_instance_types:
            parameters["training/allowed-instance-types"] = ",".join(
                settings.allowed_instance_types
            )
        if settings.managed_customization:
            parameters["training/grader-log-group"] = grader_log_group(self.names)
        if settings.mlflow:
            app = MlflowApp(
                self,
                "Mlflow",
                names=self.names,
                context=security.context,
                bucket=storage.runs,
                engineer_roles=[security.engineer_role],
                job_roles=security.training_roles,
            ).app
            parameters["training/mlflow-app"] = app.attr_arn
        if judges := environment.bedrock.judges:
            parameters["bedrock/judges"] = ",".join(judges)
        publish_parameters(self, self.names, parameters)

    def _create_registry(self) -> str:
        """Create the model package group and return its ARN.

        The accounts of `training.registry_readers` get read access through its resource policy.
        """
        name = f"{self.names.prefix}-models"
        group = sagemaker.CfnModelPackageGroup(
            self,
            "Models",
            model_package_group_name=name,
            model_package_group_description="Models trained on this platform",
            model_package_group_policy=self._reader_policy(name),
        )
        group.apply_removal_policy(self.removal)
        return self.names.arn("sagemaker", f"model-package-group/{name}")

    def _reader_policy(self, group: str) -> Any:
        accounts = self.environment_settings.training.registry_readers
        if not accounts:
            return None
        return iam.PolicyDocument(
            statements=[
                iam.PolicyStatement(
                    sid="OtherAccountsRead",
                    principals=[iam.AccountPrincipal(account) for account in accounts],
                    actions=[
                        "sagemaker:DescribeModelPackage",
                        "sagemaker:DescribeModelPackageGroup",
                        "sagemaker:ListModelPackages",
                    ],
                    resources=[
                        self.names.arn("sagemaker", f"model-package-group/{group}"),
                        self.names.arn("sagemaker", f"model-package/{group}/*"),
                    ],
                )
            ]
        ).to_json()
