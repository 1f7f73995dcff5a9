"""Roles of the security stack: who assumes each. Their permissions are in `role_policies`."""

from collections.abc import Sequence

from aws_cdk import aws_iam as iam

from stacks.constructs.assumable_role import AssumableRole
from stacks.constructs.github_oidc import GitHubOidc
from stacks.constructs.service_role import ServiceRole
from stacks.policies import processing
from stacks.policies.iam_statements import secret_names
from stacks.temper_stack import TemperStack


class PlatformRoles:
    """Roles that the environment needs; None for each that it does not.

    Without images of the kind `prepare` there is no role of processing jobs. With
    `images.approval: required` people who approve images get a role of their own, and with
    `training.model_approval: required` so do those who approve models. With `hyperpod.accounting`
    so does the controller node, because it alone may read the password of the accounting database.
    With `serving.enabled` there are the role of endpoints and that of people who deploy models,
    with `pipelines.retraining` those of executions and of the functions that start them.

    Args:
        stack: The security stack, whose children the roles become.

    Attributes:
        training: Containers of jobs.
        secrets_job: Containers of jobs that name a secret. A job that names none runs as
            `training` and can read none, whatever it executes.
        processing: Containers of processing jobs.
        node: HyperPod nodes.
        controller: HyperPod node that may also read the password of the accounting database.
        build: Builds of images.
        bedrock_import: Bedrock, as it reads models.
        customization: Bedrock, as it customizes models.
        monitoring: The job monitor.
        engineer: People who train.
        approver: People who approve images.
        model_approver: People who approve versions of models.
        on_call: People on call.
        ci: Deployment of the platform.
        diff: Comparison in pull requests.
        serving: Containers of endpoints.
        deployer: People who deploy models.
        pipeline: Executions of pipelines.
        retraining: Functions that start pipelines and run their Lambda steps.
    """

    def __init__(self, stack: TemperStack) -> None:
        self._stack = stack
        self._arn, self._environment = stack.names.arn, stack.environment_settings
        self._add_jobs()
        self._add_services()
        self._add_people()
        self._add_deployment()
        self._add_serving()
        self._add_pipelines()

    def _add_jobs(self) -> None:
        """Add the roles of jobs and nodes."""
        environment = self._environment
        self.training = self._sagemaker("Training", "What a SageMaker job's container may do")
        self.secrets_job: ServiceRole | None = None
        if secret_names(environment.storage):
            description = "What the container of a SageMaker job that names a secret may do"
            self.secrets_job = self._sagemaker("JobWithSecrets", description)
        self.processing: ServiceRole | None = None
        if processing.IMAGE_KIND in environment.images.kinds:
            description = "What the container of a SageMaker processing job may do"
            self.processing = self._sagemaker("Processing", description)
        self.node = self._sagemaker("HyperPodNode", "What a HyperPod node may do", "cluster/*")
        self.controller: ServiceRole | None = None
        if environment.hyperpod.enabled and environment.hyperpod.accounting:
            description = "A HyperPod node that may also read the accounts' password"
            self.controller = self._sagemaker("HyperPodController", description, "cluster/*")

    def _add_services(self) -> None:
        """Add the roles of builds, of Bedrock and of the job monitor."""
        self.build = ServiceRole(
            self._stack,
            "ImageBuild",
            service="codebuild.amazonaws.com",
            description="Builds and pushes container images",
            source_arns=[self._arn("codebuild", f"project/{self._stack.names.build_project}")],
        )
        customization_jobs = self._arn("bedrock", "model-customization-job/*")
        self.bedrock_import = ServiceRole(
            self._stack,
            "BedrockImport",
            service="bedrock.amazonaws.com",
            description="Lets Bedrock read the models it imports",
            source_arns=[self._arn("bedrock", "model-import-job/*"), customization_jobs],
        )
        self.customization: ServiceRole | None = None
        self.grader: ServiceRole | None = None
        if self._environment.training.managed_customization:
            self.customization = ServiceRole(
                self._stack,
                "BedrockCustomization",
                service="bedrock.amazonaws.com",
                description="Lets Bedrock read records, write results and call graders",
                source_arns=[customization_jobs],
            )
            self.grader = ServiceRole(
                self._stack,
                "Grader",
                service="lambda.amazonaws.com",
                description="Scores answers of reinforcement fine-tuning, and writes its log",
            )
        self.monitoring = ServiceRole(
            self._stack,
            "Monitoring",
            service="lambda.amazonaws.com",
            description="Watches jobs and says what it saw",
        )

    def _add_people(self) -> None:
        """Add the roles of people who train, approve and are on call."""
        environment, settings = self._environment, self._environment.security
        self.engineer = self._people(
            "Engineer", "Starts, watches and stops training jobs", settings.engineers
        )
        self.approver: AssumableRole | None = None
        if environment.images.approval == "required":
            self.approver = self._people(
                "ImageApprover", "Approves the images that jobs use", settings.image_approvers
            )
        self.model_approver: AssumableRole | None = None
        if environment.training.model_approval == "required":
            description = "Approves versions of models for deployment"
            self.model_approver = self._people(
                "ModelApprover", description, settings.model_approvers
            )
        description = "Follows the runbooks, and reads neither data nor models"
        self.on_call = self._people("OnCall", description, settings.on_call)

    def _add_deployment(self) -> None:
        """Add the roles of the deployment of the platform, from GitHub if it is used."""
        settings = self._environment.security
        github: GitHubOidc | None = None
        if settings.github:
            github = GitHubOidc(
                self._stack,
                "GitHub",
                account=self._stack.names.account,
                settings=settings.github,
            )
        self.ci = AssumableRole(
            self._stack,
            "PlatformCi",
            description="Deploys the platform through the CDK bootstrap roles",
            principals=settings.platform_ci,
            require_mfa=False,
            web_identity=github.deployments() if github else None,
        )
        self.diff: AssumableRole | None = None
        if github:
            self.diff = AssumableRole(
                self._stack,
                "PlatformDiff",
                description="Shows in a pull request what a deployment would change",
                principals=[],
                require_mfa=False,
                web_identity=github.pull_requests(),
            )

    def _add_serving(self) -> None:
        """Add the role of endpoints' containers, and that of people who deploy models."""
        self.serving: ServiceRole | None = None
        self.deployer: AssumableRole | None = None
        if self._environment.serving.enabled:
            self.serving = self._sagemaker("Serving", "What an endpoint's container may do")
            self.deployer = self._people(
                "ModelDeployer",
                "Deploys approved models, and neither registers nor approves them",
                self._environment.security.model_deployers,
            )

    def _add_pipelines(self) -> None:
        """Add the role of executions of pipelines, and that of the functions around them."""
        self.pipeline: ServiceRole | None = None
        self.retraining: ServiceRole | None = None
        if self._environment.pipelines.retraining:
            self.pipeline = self._sagemaker("Pipeline", "What an execution of a pipeline may do")
            self.retraining = ServiceRole(
                self._stack,
                "Retraining",
                service="lambda.amazonaws.com",
                description="Starts pipelines and runs their Lambda steps",
            )

    def _sagemaker(self, id: str, description: str, source: str = "*") -> ServiceRole:
        return ServiceRole(
            self._stack,
            id,
            service="sagemaker.amazonaws.com",
            description=description,
            source_arns=[self._arn("sagemaker", source)],
        )

    def _people(self, id: str, description: str, principals: Sequence[str]) -> AssumableRole:
        return AssumableRole(
            self._stack,
            id,
            description=description,
            principals=principals,
            require_mfa=self._environment.security.require_mfa,
        )

    @property
    def of_training(self) -> list[iam.IRole]:
        """Roles of training jobs' containers."""
        return existing(self.training, self.secrets_job)

    @property
    def of_jobs(self) -> list[iam.IRole]:
        """Roles that process data, in containers and on nodes."""
        return [*self.of_training, *existing(self.node, self.controller, self.processing)]

    @property
    def passed_to_jobs(self) -> list[iam.IRole]:
        """Roles that engineers pass to the jobs they start."""
        return [*self.of_training, *existing(self.processing)]


def existing(*roles: ServiceRole | AssumableRole | None) -> list[iam.IRole]:
    """Return the roles that the environment needs, without those that are None."""
    return [role.role for role in roles if role is not None]
