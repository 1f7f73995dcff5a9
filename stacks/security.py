"""Stack of KMS keys and IAM roles. Every other stack depends on it."""

import dataclasses

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from catalog.kms_key_users import KEY_SERVICES
from stacks.constructs.assumable_role import AssumableRole
from stacks.constructs.github_oidc import GitHubOidc
from stacks.constructs.kms_key import DomainKmsKey, KeyUsers
from stacks.constructs.service_role import ServiceRole
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.policies import (
    bedrock_import,
    engineer,
    engineer_guardrails,
    hyperpod_node,
    image_approver,
    image_build,
    image_builds,
    managed_customization,
    model_approver,
    model_deployer,
    monitoring,
    on_call,
    permissions_boundary,
    pipeline,
    platform_ci,
    processing,
    serving,
    training,
)
from stacks.policies.iam_statements import IamContext, allow, secret_names
from stacks.policies.kms_actions import READ
from stacks.settings import Environment
from stacks.temper_stack import TemperStack

# FSx creates a service-linked role per file system, and accesses a linked bucket as that role.
# docs.aws.amazon.com/fsx/latest/LustreGuide/s3-server-side-encryption-support.html
LUSTRE_LINK = "s3.data-source.lustre.fsx.amazonaws.com/AWSServiceRoleForFSxS3Access_*"


class SecurityStack(TemperStack):
    """Stack with four KMS keys and the roles that the environment needs.

    Without images of the kind `prepare` there is no role of processing jobs. With
    `images.approval: required` people who approve images get a role of their own, and with
    `training.model_approval: required` so do those who approve models. With `hyperpod.accounting`
    so does the controller node, because it alone may read the password of the accounting database.
    With `serving.enabled` there are the role of endpoints and that of people who deploy models,
    with `pipelines.retraining` those of executions and of the functions that start them.
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
        self._create_roles()
        self._create_serving_roles()
        self._create_pipeline_roles()
        self.context = self._create_keys()
        self._attach_policies()
        self._allow_key_of_data_bucket()
        self._publish()

    def _create_roles(self) -> None:
        arn, settings = self.names.arn, self.environment_settings.security
        self._training = ServiceRole(
            self,
            "Training",
            service="sagemaker.amazonaws.com",
            description="What a SageMaker job's container may do",
            source_arns=[arn("sagemaker", "*")],
        )
        # A job that names no secret runs as `Training` and can read none, whatever it executes.
        self._secrets_job: ServiceRole | None = None
        if secret_names(self.environment_settings.storage):
            self._secrets_job = ServiceRole(
                self,
                "JobWithSecrets",
                service="sagemaker.amazonaws.com",
                description="What the container of a SageMaker job that names a secret may do",
                source_arns=[arn("sagemaker", "*")],
            )
        self._processing: ServiceRole | None = None
        if processing.IMAGE_KIND in self.environment_settings.images.kinds:
            self._processing = ServiceRole(
                self,
                "Processing",
                service="sagemaker.amazonaws.com",
                description="What the container of a SageMaker processing job may do",
                source_arns=[arn("sagemaker", "*")],
            )
        self._node = ServiceRole(
            self,
            "HyperPodNode",
            service="sagemaker.amazonaws.com",
            description="What a HyperPod node may do",
            source_arns=[arn("sagemaker", "cluster/*")],
        )
        self._controller: ServiceRole | None = None
        hyperpod = self.environment_settings.hyperpod
        if hyperpod.enabled and hyperpod.accounting:
            self._controller = ServiceRole(
                self,
                "HyperPodController",
                service="sagemaker.amazonaws.com",
                description="A HyperPod node that may also read the accounts' password",
                source_arns=[arn("sagemaker", "cluster/*")],
            )
        self._build = ServiceRole(
            self,
            "ImageBuild",
            service="codebuild.amazonaws.com",
            description="Builds and pushes container images",
            source_arns=[arn("codebuild", f"project/{self.names.build_project}")],
        )
        self._import = ServiceRole(
            self,
            "BedrockImport",
            service="bedrock.amazonaws.com",
            description="Lets Bedrock read the models it imports",
            source_arns=[
                arn("bedrock", "model-import-job/*"),
                arn("bedrock", "model-customization-job/*"),
            ],
        )
        self._customization: ServiceRole | None = None
        if self.environment_settings.training.managed_customization:
            self._customization = ServiceRole(
                self,
                "BedrockCustomization",
                service="bedrock.amazonaws.com",
                description="Lets Bedrock read records, write results and call graders",
                source_arns=[arn("bedrock", "model-customization-job/*")],
            )
        self._monitoring = ServiceRole(
            self,
            "Monitoring",
            service="lambda.amazonaws.com",
            description="Watches jobs and says what it saw",
        )
        self._engineer = AssumableRole(
            self,
            "Engineer",
            description="Starts, watches and stops training jobs",
            principals=settings.engineers,
            require_mfa=settings.require_mfa,
        )
        self._approver: AssumableRole | None = None
        if self.environment_settings.images.approval == "required":
            self._approver = AssumableRole(
                self,
                "ImageApprover",
                description="Approves the images that jobs use",
                principals=settings.image_approvers,
                require_mfa=settings.require_mfa,
            )
        self._model_approver: AssumableRole | None = None
        if self.environment_settings.training.model_approval == "required":
            self._model_approver = AssumableRole(
                self,
                "ModelApprover",
                description="Approves versions of models for deployment",
                principals=settings.model_approvers,
                require_mfa=settings.require_mfa,
            )
        self._on_call = AssumableRole(
            self,
            "OnCall",
            description="Follows the runbooks, and reads neither data nor models",
            principals=settings.on_call,
            require_mfa=settings.require_mfa,
        )
        self._github: GitHubOidc | None = None
        if settings.github:
            self._github = GitHubOidc(
                self, "GitHub", account=self.names.account, settings=settings.github
            )
        self._ci = AssumableRole(
            self,
            "PlatformCi",
            description="Deploys the platform through the CDK bootstrap roles",
            principals=settings.platform_ci,
            require_mfa=False,
            web_identity=self._github.deployments() if self._github else None,
        )
        self._diff: AssumableRole | None = None
        if self._github:
            self._diff = AssumableRole(
                self,
                "PlatformDiff",
                description="Shows in a pull request what a deployment would change",
                principals=[],
                require_mfa=False,
                web_identity=self._github.pull_requests(),
            )
        self.training_role = self._training.role
        self.training_roles: list[iam.IRole] = [
            role.role for role in (self._training, self._secrets_job) if role
        ]
        self.processing_role = self._processing.role if self._processing else None
        self.node_role = self._node.role
        self.controller_role = self._controller.role if self._controller else None
        self.build_role = self._build.role
        self.import_role = self._import.role
        self.customization_role = self._customization.role if self._customization else None
        self.monitoring_role = self._monitoring.role
        self.engineer_role = self._engineer.role
        self.approver_role = self._approver.role if self._approver else None

    def _create_serving_roles(self) -> None:
        """Create the role of endpoints' containers, and that of people who deploy models."""
        settings = self.environment_settings.security
        self._serving: ServiceRole | None = None
        self._deployer: AssumableRole | None = None
        if self.environment_settings.serving.enabled:
            self._serving = ServiceRole(
                self,
                "Serving",
                service="sagemaker.amazonaws.com",
                description="What an endpoint's container may do",
                source_arns=[self.names.arn("sagemaker", "*")],
            )
            self._deployer = AssumableRole(
                self,
                "ModelDeployer",
                description="Deploys approved models, and neither registers nor approves them",
                principals=settings.model_deployers,
                require_mfa=settings.require_mfa,
            )
        self.serving_role = self._serving.role if self._serving else None
        self.deployer_role = self._deployer.role if self._deployer else None

    def _create_pipeline_roles(self) -> None:
        """Create the role of executions of pipelines, and that of the functions around them."""
        self._pipeline: ServiceRole | None = None
        self._retraining: ServiceRole | None = None
        if self.environment_settings.pipelines.retraining:
            self._pipeline = ServiceRole(
                self,
                "Pipeline",
                service="sagemaker.amazonaws.com",
                description="What an execution of a pipeline may do",
                source_arns=[self.names.arn("sagemaker", "*")],
            )
            self._retraining = ServiceRole(
                self,
                "Retraining",
                service="lambda.amazonaws.com",
                description="Starts pipelines and runs their Lambda steps",
            )
        self.pipeline_role = self._pipeline.role if self._pipeline else None
        self.retraining_role = self._retraining.role if self._retraining else None

    @property
    def job_roles(self) -> list[iam.IRole]:
        """Roles that process data, in containers and on nodes."""
        roles = [
            *self.training_roles,
            self.node_role,
            self.controller_role,
            self.processing_role,
        ]
        return [role for role in roles if role is not None]

    @property
    def _passed_roles(self) -> list[iam.IRole]:
        """Roles that engineers pass to the jobs they start."""
        return [*self.training_roles, *([self.processing_role] if self.processing_role else [])]

    def _create_keys(self) -> IamContext:
        jobs = [*self.job_roles, self.engineer_role]
        serving = [self.serving_role, self.deployer_role]
        servers = [role for role in serving if role is not None]
        customizers = [role for role in (self.customization_role,) if role is not None]
        around = [self.pipeline_role, self.retraining_role, self.customization_role]
        data = self._key(
            "data",
            KeyUsers(
                writers=[*jobs, *servers],
                readers=[self.build_role, *(role for role in around if role is not None)],
                delegated_services=["fsx", "rds", "secretsmanager", "sagemaker"],
                linked_roles=[LUSTRE_LINK] if self.environment_settings.hyperpod.enabled else [],
            ),
        )
        models = self._key(
            "models",
            KeyUsers(
                # A preparation has no access to models.
                writers=[
                    *(role for role in jobs if role is not self.processing_role),
                    *customizers,
                ],
                readers=[
                    self.import_role,
                    *([self._model_approver.role] if self._model_approver else []),
                    *servers,
                ],
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
        existing: str | None = getattr(self.environment_settings.security.kms_key_arns, domain)
        if existing:
            return kms.Key.from_key_arn(self, f"{domain.title()}Key", existing)
        return DomainKmsKey(
            self,
            f"{domain.title()}Key",
            domain=domain,
            alias=f"{self.names.prefix}/{domain}",
            users=dataclasses.replace(users, restorers=[self._on_call.role]),
            administrators=self.environment_settings.security.key_administrators,
            qualifier=self.environment_settings.cdk_qualifier,
            removal=self.removal,
        ).key

    def _attach_policies(self) -> None:
        environment, context = self.environment_settings, self.context
        self._training.attach_policy(*training.statements(context, environment, secrets=False))
        if self._secrets_job:
            readers = training.statements(context, environment, secrets=True)
            self._secrets_job.attach_policy(*readers)
        if self._processing:
            self._processing.attach_policy(*processing.statements(context))
        node_statements = hyperpod_node.statements(context)
        # On EKS, `EksNodes` grants the same for the subnets of its pods.
        if environment.hyperpod.enabled and environment.hyperpod.orchestrator == "slurm":
            node_statements += hyperpod_node.slurm_interface_statements(context)
        for node in (self._node, self._controller):
            if node:
                node.attach_policy(*node_statements)
        self._build.attach_policy(*image_build.statements(context, environment.images))
        self._attach_approvals()
        self._attach_serving()
        self._attach_pipelines()
        self._import.attach_policy(*bedrock_import.statements(context))
        self._attach_customization()
        self._monitoring.attach_policy(*monitoring.statements(context))
        self._engineer.attach_policy(
            "Work",
            *engineer.training_statements(
                context, job_roles=self._passed_roles, storage=environment.storage
            ),
            *([processing.remove_unfinished(context)] if self._processing else []),
        )
        self._engineer.attach_policy("Read", *engineer.reading_statements(context))
        self._attach_engineer_serving()
        if environment.images.build:
            self._engineer.attach_policy("Builds", *image_builds.statements(self.names))
        if environment.hyperpod.enabled:
            self._engineer.attach_policy(
                "Clusters",
                *engineer.cluster_statements(context, eks_cluster_arn=self._eks_cluster_arn()),
            )
        encrypt = environment.security.inter_container_encryption
        self._engineer.attach_policy(
            "Fences",
            *engineer_guardrails.guardrail_statements(context, encrypt_traffic=encrypt),
            *engineer_guardrails.cost_statements(environment.training),
            *([model_approver.engineer_denial()] if self._model_approver else []),
        )
        self._on_call.attach_policy("Read", *on_call.reading_statements(context))
        stopped = [self.engineer_role, *([self.deployer_role] if self.deployer_role else [])]
        self._on_call.attach_policy(
            "Act", *on_call.acting_statements(context, stopped_roles=stopped)
        )
        self._ci.attach_policy(
            "Policy", *platform_ci.statements(self.names, environment.cdk_qualifier)
        )
        if self._diff:
            read_only = platform_ci.statements(
                self.names, environment.cdk_qualifier, platform_ci.READ_ONLY
            )
            self._diff.attach_policy("Policy", *read_only)

    def _attach_serving(self) -> None:
        if not (self._serving and self._deployer):
            return
        context, settings = self.context, self.environment_settings.serving
        self._serving.attach_policy(*serving.statements(context))
        deploy = model_deployer.sagemaker_statements(context, execution_role=self._serving.role)
        self._deployer.attach_policy("Deploy", *deploy)
        self._deployer.attach_policy("Read", *model_deployer.reading_statements(context))
        bedrock = model_deployer.bedrock_statements(context, import_role=self.import_role)
        self._deployer.attach_policy("Bedrock", *bedrock)
        fences = model_deployer.guardrail_statements(context, settings)
        self._deployer.attach_policy("Fences", *fences)

    def _attach_engineer_serving(self) -> None:
        context = self.context
        # In one policy: IAM attaches ten to a role, and the budget needs one.
        serving = engineer.serving_statements(context, import_role=self.import_role)
        if self._pipeline:
            serving += pipeline.engineer_statements(context, self._pipeline.role)
        if self.customization_role:
            role = self.customization_role
            serving += managed_customization.engineer_statements(context, role=role)
        self._engineer.attach_policy("Serving", *serving)

    def _attach_customization(self) -> None:
        """Let Bedrock read the records of customizations, and write what it makes of them."""
        if not self._customization:
            return
        context = self.context
        self._customization.attach_policy(*managed_customization.role_statements(context))

    def _attach_pipelines(self) -> None:
        if not (self._pipeline and self._retraining):
            return
        context, environment = self.context, self.environment_settings
        roles = self._passed_roles
        self._pipeline.attach_policy(*pipeline.execution_statements(context, roles))
        functions = pipeline.function_statements(context, environment.pipelines)
        self._retraining.attach_policy(*functions)
        # What holds for the jobs of engineers holds for those of their pipelines.
        encrypt = environment.security.inter_container_encryption
        iam.ManagedPolicy(
            self,
            "PipelineFences",
            statements=[
                *engineer_guardrails.guardrail_statements(context, encrypt_traffic=encrypt),
                *engineer_guardrails.cost_statements(environment.training),
            ],
            roles=[self._pipeline.role],
        )

    def _attach_approvals(self) -> None:
        if self._approver:
            approvals = image_approver.statements(self.names, self.environment_settings.images)
            self._approver.attach_policy("Policy", *approvals)
        if self._model_approver:
            self._model_approver.attach_policy("Policy", *model_approver.statements(self.context))

    def _eks_cluster_arn(self) -> str | None:
        hyperpod = self.environment_settings.hyperpod
        if hyperpod.eks:
            return self.names.arn("eks", f"cluster/{self.names.eks_cluster}")
        return hyperpod.eks_cluster_arn

    def _publish(self) -> None:
        values = {
            "roles/training": self.training_role.role_arn,
            **(
                {"roles/training-with-secrets": self._secrets_job.role.role_arn}
                if self._secrets_job
                else {}
            ),
            **({"roles/processing": self.processing_role.role_arn} if self.processing_role else {}),
            "roles/hyperpod-node": self.node_role.role_arn,
            "roles/bedrock-import": self.import_role.role_arn,
            **(
                {"roles/bedrock-customization": self.customization_role.role_arn}
                if self.customization_role
                else {}
            ),
            "roles/engineer": self.engineer_role.role_arn,
            "roles/on-call": self._on_call.role.role_arn,
            "roles/platform-ci": self._ci.role.role_arn,
            **({"roles/platform-diff": self._diff.role.role_arn} if self._diff else {}),
            **({"roles/image-approver": self.approver_role.role_arn} if self.approver_role else {}),
            **(
                {"roles/model-approver": self._model_approver.role.role_arn}
                if self._model_approver
                else {}
            ),
            **({"roles/serving": self.serving_role.role_arn} if self.serving_role else {}),
            **({"roles/model-deployer": self.deployer_role.role_arn} if self.deployer_role else {}),
            "keys/data": self.context.data.key_arn,
            "keys/models": self.context.models.key_arn,
            "keys/logs": self.context.logs.key_arn,
        }
        publish_parameters(self, self.names, values)
