"""Stack of KMS keys and IAM roles. Every other stack depends on it."""

import dataclasses

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from catalog.kms_key_users import KEY_SERVICES
from stacks.constructs.kms_key import DomainKmsKey, KeyUsers
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.policies import permissions_boundary
from stacks.policies.iam_statements import IamContext, allow
from stacks.policies.kms_actions import READ
from stacks.role_policies import RolePolicies
from stacks.roles import PlatformRoles, existing
from stacks.settings import Environment
from stacks.temper_stack import TemperStack

# FSx creates a service-linked role per file system, and accesses a linked bucket as that role.
# docs.aws.amazon.com/fsx/latest/LustreGuide/s3-server-side-encryption-support.html
LUSTRE_LINK = "s3.data-source.lustre.fsx.amazonaws.com/AWSServiceRoleForFSxS3Access_*"


class SecurityStack(TemperStack):
    """Stack with four KMS keys, the permissions boundary and the roles of the platform.

    Key policies name the roles, and the permissions of the roles name the keys: the roles come
    first, then the keys, then the permissions.

    Attributes:
        boundary: The permissions boundary; None if the platform does not create it.
        context: Names and keys of the environment.
    """

    def __init__(self, scope: Construct, *, environment: Environment) -> None:
        super().__init__(scope, "security", environment=environment)
        self.boundary: iam.ManagedPolicy | None = None
        if environment.security.permission_boundary == "managed":
            self.boundary = iam.ManagedPolicy(
                self,
                "Boundary",
                managed_policy_name=f"{environment.prefix}-boundary",
                description="What no role of the platform may do",
                statements=permissions_boundary.statements(
                    self.names, scaling=environment.serving.enabled
                ),
            )
        self._roles = PlatformRoles(self)
        self._name_roles()
        self.context = self._create_keys()
        RolePolicies(self, self._roles, self.context)
        self._allow_key_of_data_bucket()
        self._publish()

    def _name_roles(self) -> None:
        """Set the attributes by which other stacks refer to the roles."""
        roles = self._roles
        self.training_roles = roles.of_training
        self.job_roles = roles.of_jobs
        self.node_role = roles.node.role
        self.controller_role = roles.controller.role if roles.controller else None
        self.build_role = roles.build.role
        self.monitoring_role = roles.monitoring.role
        self.engineer_role = roles.engineer.role
        self.approver_role = roles.approver.role if roles.approver else None
        self.serving_role = roles.serving.role if roles.serving else None
        self.deployer_role = roles.deployer.role if roles.deployer else None
        self.pipeline_role = roles.pipeline.role if roles.pipeline else None
        self.retraining_role = roles.retraining.role if roles.retraining else None

    def _create_keys(self) -> IamContext:
        roles = self._roles
        jobs = [*roles.of_jobs, roles.engineer.role]
        servers = existing(roles.serving, roles.deployer)
        customizers, processing = existing(roles.customization), existing(roles.processing)
        data = self._key(
            "data",
            KeyUsers(
                writers=[*jobs, *servers],
                readers=existing(
                    *(roles.build, roles.pipeline, roles.retraining, roles.customization)
                ),
                delegated_services=["fsx", "rds", "secretsmanager", "sagemaker"],
                linked_roles=[LUSTRE_LINK] if self.environment_settings.hyperpod.enabled else [],
            ),
        )
        models = self._key(
            "models",
            KeyUsers(
                # A preparation has no access to models.
                writers=[*(role for role in jobs if role not in processing), *customizers],
                readers=[*existing(roles.bedrock_import, roles.model_approver), *servers],
                # Bedrock encrypts a custom model with the key that the engineer grants it.
                delegated_services=["ecr", "sagemaker", *["bedrock"] * bool(customizers)],
                reader_accounts=self.environment_settings.training.registry_readers,
            ),
        )
        logs = self._key(
            "logs",
            KeyUsers(
                services=self._services("logs"),
                delegated_services=["logs", "s3"],
            ),
        )
        messages = self._key(
            "messages",
            KeyUsers(
                services=self._services("messages"),
                delegated_services=["sns", "sqs", "dynamodb", "lambda"],
            ),
        )
        return IamContext(
            self.names,
            self.environment_settings.name,
            data=data,
            models=models,
            logs=logs,
            messages=messages,
        )

    def _allow_key_of_data_bucket(self) -> None:
        """Let the roles that read and write data use the key of a bucket that exists."""
        bucket = self.environment_settings.storage.data_bucket
        if bucket is None or bucket.kms_key_arn is None:
            return
        iam.ManagedPolicy(
            self,
            "DataBucketKey",
            statements=[
                allow(
                    "UseDataBucketKey",
                    [*READ, "kms:Encrypt", "kms:GenerateDataKey"],
                    [bucket.kms_key_arn],
                )
            ],
            roles=[*self.job_roles, self.engineer_role],
        )

    def _services(self, domain: str) -> list[str]:
        return [service.format(region=self.region) for service in KEY_SERVICES[domain]]

    def _key(self, domain: str, users: KeyUsers) -> kms.IKey:
        arn: str | None = getattr(self.environment_settings.security.kms_key_arns, domain)
        if arn:
            return kms.Key.from_key_arn(self, f"{domain.title()}Key", arn)
        return DomainKmsKey(
            self,
            f"{domain.title()}Key",
            domain=domain,
            alias=f"{self.names.prefix}/{domain}",
            users=dataclasses.replace(users, restorers=[self._roles.on_call.role]),
            administrators=self.environment_settings.security.key_administrators,
            qualifier=self.environment_settings.cdk_qualifier,
            removal=self.removal,
        ).key

    def _publish(self) -> None:
        roles = self._roles
        published = {
            "training": roles.training,
            "training-with-secrets": roles.secrets_job,
            "processing": roles.processing,
            "hyperpod-node": roles.node,
            "bedrock-import": roles.bedrock_import,
            "bedrock-customization": roles.customization,
            "grader": roles.grader,
            "engineer": roles.engineer,
            "on-call": roles.on_call,
            "platform-ci": roles.ci,
            "platform-diff": roles.diff,
            "image-approver": roles.approver,
            "model-approver": roles.model_approver,
            "serving": roles.serving,
            "model-deployer": roles.deployer,
        }
        values = {f"roles/{name}": one.role.role_arn for name, one in published.items() if one}
        keys = {
            "keys/data": self.context.data.key_arn,
            "keys/models": self.context.models.key_arn,
            "keys/logs": self.context.logs.key_arn,
        }
        publish_parameters(self, self.names, {**values, **keys})
