"""Permissions of the roles of the security stack, attached once its keys exist."""

from aws_cdk import aws_iam as iam

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
    pipeline,
    platform_ci,
    processing,
    serving,
    training,
)
from stacks.policies.iam_statements import IamContext
from stacks.roles import PlatformRoles, existing
from stacks.settings import Environment
from stacks.temper_stack import TemperStack


class RolePolicies:
    """Managed policies of the roles.

    Args:
        stack: The security stack.
        roles: Its roles.
        context: Names and keys of the environment.
    """

    def __init__(self, stack: TemperStack, roles: PlatformRoles, context: IamContext) -> None:
        self._stack, self._roles, self._context = stack, roles, context
        self._environment: Environment = stack.environment_settings
        self._attach_jobs()
        self._attach_services()
        self._attach_approvals()
        self._attach_serving()
        self._attach_pipelines()
        self._attach_engineer()
        self._attach_on_call()
        self._attach_deployment()

    def _attach_jobs(self) -> None:
        roles, context, environment = self._roles, self._context, self._environment
        roles.training.attach_policy(*training.statements(context, environment, secrets=False))
        if roles.secrets_job:
            readers = training.statements(context, environment, secrets=True)
            roles.secrets_job.attach_policy(*readers)
        if roles.processing:
            roles.processing.attach_policy(*processing.statements(context))
        node_statements = hyperpod_node.statements(context)
        # On EKS, `EksNodes` grants the same for the subnets of its pods.
        if environment.hyperpod.enabled and environment.hyperpod.orchestrator == "slurm":
            node_statements += hyperpod_node.slurm_interface_statements(context)
        for node in (roles.node, roles.controller):
            if node:
                node.attach_policy(*node_statements)

    def _attach_services(self) -> None:
        roles, context = self._roles, self._context
        roles.build.attach_policy(*image_build.statements(context, self._environment.images))
        roles.bedrock_import.attach_policy(*bedrock_import.statements(context))
        if roles.customization:
            roles.customization.attach_policy(*managed_customization.role_statements(context))
        if roles.grader:
            roles.grader.attach_policy(*managed_customization.grader_statements(context))
        roles.monitoring.attach_policy(*monitoring.statements(context))

    def _attach_approvals(self) -> None:
        roles, names = self._roles, self._stack.names
        if roles.approver:
            approvals = image_approver.statements(names, self._environment.images)
            roles.approver.attach_policy("Policy", *approvals)
        if roles.model_approver:
            roles.model_approver.attach_policy("Policy", *model_approver.statements(self._context))

    def _attach_serving(self) -> None:
        roles, context = self._roles, self._context
        if not (roles.serving and roles.deployer):
            return
        watches = [each.watch for each in self._environment.serving.deployments if each.watch]
        judges = sorted({watch.judge.model for watch in watches if watch.judge})
        roles.serving.attach_policy(
            *serving.statements(context), *training.ask_models(context, judges)
        )
        deploy = model_deployer.sagemaker_statements(context, execution_role=roles.serving.role)
        roles.deployer.attach_policy("Deploy", *deploy)
        roles.deployer.attach_policy("Read", *model_deployer.reading_statements(context))
        bedrock = model_deployer.bedrock_statements(context, import_role=roles.bedrock_import.role)
        roles.deployer.attach_policy("Bedrock", *bedrock)
        fences = model_deployer.guardrail_statements(context, self._environment.serving)
        roles.deployer.attach_policy("Fences", *fences)

    def _attach_pipelines(self) -> None:
        roles, context = self._roles, self._context
        if not (roles.pipeline and roles.retraining):
            return
        executions = pipeline.execution_statements(context, roles.passed_to_jobs)
        roles.pipeline.attach_policy(*executions)
        functions = pipeline.function_statements(context, self._environment.pipelines)
        roles.retraining.attach_policy(*functions)
        iam.ManagedPolicy(
            self._stack,
            "PipelineFences",
            statements=self._guardrails(),
            roles=[roles.pipeline.role],
        )

    def _attach_engineer(self) -> None:
        roles, context, environment = self._roles, self._context, self._environment
        roles.engineer.attach_policy(
            "Work",
            *engineer.training_statements(
                context, job_roles=roles.passed_to_jobs, storage=environment.storage
            ),
            *([processing.remove_unfinished(context)] if roles.processing else []),
        )
        roles.engineer.attach_policy("Read", *engineer.reading_statements(context))
        # In few policies: IAM attaches ten to a role, and the budget needs one.
        statements = engineer.serving_statements(context, import_role=roles.bedrock_import.role)
        if roles.pipeline:
            statements += pipeline.engineer_statements(context, roles.pipeline.role)
        if environment.hyperpod.enabled:
            statements += engineer.cluster_statements(
                context, eks_cluster_arn=self._eks_cluster_arn()
            )
        roles.engineer.attach_policy("Serving", *statements)
        if roles.customization and roles.grader:
            roles.engineer.attach_policy(
                "Customization",
                *managed_customization.engineer_statements(
                    context, role=roles.customization.role, grader=roles.grader.role
                ),
            )
        if environment.images.build:
            roles.engineer.attach_policy("Builds", *image_builds.statements(self._stack.names))
        roles.engineer.attach_policy(
            "Fences",
            *self._guardrails(),
            *([model_approver.engineer_denial()] if roles.model_approver else []),
        )

    def _guardrails(self) -> list[iam.PolicyStatement]:
        """Return the denials for jobs, whether engineers or their pipelines start them."""
        encrypt = self._environment.security.inter_container_encryption
        return [
            *engineer_guardrails.guardrail_statements(self._context, encrypt_traffic=encrypt),
            *engineer_guardrails.cost_statements(self._environment.training),
        ]

    def _eks_cluster_arn(self) -> str | None:
        hyperpod, names = self._environment.hyperpod, self._stack.names
        if hyperpod.eks:
            return names.arn("eks", f"cluster/{names.eks_cluster}")
        return hyperpod.eks_cluster_arn

    def _attach_on_call(self) -> None:
        roles, context = self._roles, self._context
        roles.on_call.attach_policy("Read", *on_call.reading_statements(context))
        stopped = existing(roles.engineer, roles.deployer)
        act = on_call.acting_statements(context, stopped_roles=stopped)
        roles.on_call.attach_policy("Act", *act)

    def _attach_deployment(self) -> None:
        roles, names = self._roles, self._stack.names
        qualifier = self._environment.cdk_qualifier
        roles.ci.attach_policy("Policy", *platform_ci.statements(names, qualifier))
        if roles.diff:
            read_only = platform_ci.statements(names, qualifier, platform_ci.READ_ONLY)
            roles.diff.attach_policy("Policy", *read_only)
