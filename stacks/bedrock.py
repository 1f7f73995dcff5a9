"""Stack for serving through Bedrock: provisioned throughput, invocation logging and a guardrail."""

from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.content_guardrail import ContentGuardrail
from stacks.constructs.custom_resource import AwaitedProvider
from stacks.constructs.encrypted_log_group import EncryptedLogGroup
from stacks.constructs.handler_function import HandlerFunction
from stacks.constructs.scheduled_removal import (
    RemovalSchedule,
    ScheduledRemoval,
    removal_of_throughput,
)
from stacks.constructs.service_role import ServiceRole
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.policies.iam_statements import IamContext, allow
from stacks.settings import Environment
from stacks.temper_stack import TemperStack


class BedrockStack(TemperStack):
    """Stack with the Bedrock resources of one environment, disabled by default.

    Provisioned throughput is billed by the hour, so whatever this stack deploys it also undeploys
    on a
    schedule.
    """

    def __init__(self, scope: Construct, *, environment: Environment, context: IamContext) -> None:
        super().__init__(scope, "bedrock", environment=environment)
        self._context = context
        settings = environment.bedrock
        undeploy = ScheduledRemoval(
            self,
            "Undeploy",
            names=self.names,
            context=context,
            kinds=["throughput"],
            what="provisioned throughput",
            log_name="undeploy-throughput",
            statements=removal_of_throughput(self.names),
            schedules=[
                RemovalSchedule("Nightly", settings.undeploy, "all", settings.undeploy_timezone),
                RemovalSchedule("Idle", "rate(1 hour)", "idle"),
            ],
            idle_hours=settings.idle_hours,
        )
        # Without those of custom resources: CloudFormation calls them and reports their errors.
        self.handlers: list[HandlerFunction] = [undeploy.handler]
        if settings.throughput:
            self._add_throughput()
        if settings.invocation_logging:
            self._add_invocation_logging()
        if settings.guardrail:
            guardrail = ContentGuardrail(
                self,
                "Content",
                names=self.names,
                settings=settings.guardrail,
                key=context.logs,
            ).guardrail
            publish_parameters(self, self.names, {"bedrock/guardrail": guardrail.attr_guardrail_id})

    def _add_throughput(self) -> None:
        environment = self.environment_settings
        own_throughput = {"StringEquals": {"aws:ResourceTag/TemperPrefix": self.names.prefix}}
        tagged_on_creation = {"StringEquals": {"aws:RequestTag/TemperPrefix": self.names.prefix}}
        throughput_arn = self.names.arn("bedrock", "provisioned-model/*")
        models = [
            self.names.arn("bedrock", "custom-model/*"),
            f"arn:{self.partition}:bedrock:{self.region}::foundation-model/*",
        ]
        provider = AwaitedProvider(
            self,
            "Throughput",
            module="provisioned_throughput",
            context=self._context,
            wait=True,
            statements=[
                # Creation is authorized on the model and by the request tags.
                allow(
                    "Make", ["bedrock:CreateProvisionedModelThroughput"], models, tagged_on_creation
                ),
                allow("Tag", ["bedrock:TagResource"], [throughput_arn], tagged_on_creation),
                allow(
                    "Keep",
                    [
                        "bedrock:DeleteProvisionedModelThroughput",
                        "bedrock:GetProvisionedModelThroughput",
                        "bedrock:UpdateProvisionedModelThroughput",
                    ],
                    [throughput_arn],
                    own_throughput,
                ),
            ],
        )
        for throughput_settings in environment.bedrock.throughput:
            provider.add_resource(
                throughput_settings.name,
                "ProvisionedThroughput",
                {
                    "Name": f"{self.names.prefix}-{throughput_settings.name}",
                    "Model": throughput_settings.model,
                    "Units": throughput_settings.units,
                    "Commitment": throughput_settings.commitment or "",
                    "AcknowledgeCommitment": throughput_settings.acknowledge_commitment,
                    "Generation": throughput_settings.generation,
                    "Tags": {
                        **environment.tags,
                        "TemperPrefix": self.names.prefix,
                        "Owner": environment.owner,
                        "Environment": environment.name,
                        "CostCentre": environment.cost_centre,
                    },
                },
            )

    def _add_invocation_logging(self) -> None:
        name = f"/temper/{self.names.prefix}/bedrock-invocations"
        group = EncryptedLogGroup(
            self,
            "Invocations",
            name=name,
            key=self._context.logs,
            days=self.environment_settings.bedrock.log_days,
            removal=self.removal,
        ).group
        role: iam.IRole = ServiceRole(
            self,
            "InvocationWriter",
            service="bedrock.amazonaws.com",
            description="Lets Bedrock log invocations",
            source_arns=[self.names.arn("bedrock", "*")],
            statements=[
                allow(
                    "Write",
                    ["logs:CreateLogStream", "logs:PutLogEvents"],
                    [self.names.arn("logs", f"log-group:{name}:log-stream:aws/bedrock/*")],
                )
            ],
        ).role
        provider = AwaitedProvider(
            self,
            "InvocationLogging",
            module="invocation_logging",
            context=self._context,
            wait=False,
            statements=[
                # The setting exists once per account; its actions support no resource.
                allow(
                    "Set",
                    [
                        "bedrock:DeleteModelInvocationLoggingConfiguration",
                        "bedrock:GetModelInvocationLoggingConfiguration",
                        "bedrock:PutModelInvocationLoggingConfiguration",
                    ],
                    ["*"],
                ),
                iam.PolicyStatement(
                    sid="PassWriter",
                    actions=["iam:PassRole"],
                    resources=[role.role_arn],
                    conditions={"StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}},
                ),
            ],
        )
        provider.add_resource(
            "Setting",
            "InvocationLogging",
            {"LogGroupName": group.log_group_name, "RoleArn": role.role_arn},
        )
