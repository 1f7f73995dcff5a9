"""Serving through Bedrock: throughput with an end, invocation logging, a guardrail."""

from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.content_guardrail import ContentGuardrail
from stacks.constructs.custom_resource import AwaitedProvider
from stacks.constructs.encrypted_log_group import EncryptedLogGroup
from stacks.constructs.handler_function import HandlerFunction
from stacks.constructs.service_role import ServiceRole
from stacks.constructs.ssm_parameters import publish
from stacks.constructs.throughput_teardown import ThroughputTeardown
from stacks.policies.iam_statements import IamContext, allow
from stacks.settings import Environment
from stacks.temper_stack import TemperStack


class BedrockStack(TemperStack):
    """Off by default. Whatever it deploys by the hour, it also undeploys."""

    def __init__(self, scope: Construct, *, environment: Environment, estate: IamContext) -> None:
        super().__init__(scope, "bedrock", environment=environment)
        self._estate = estate
        settings = environment.bedrock
        undeploy = ThroughputTeardown(
            self, "Undeploy", names=self.names, estate=estate, settings=settings
        )
        self.handlers: list[HandlerFunction] = [undeploy.handler]
        if settings.throughput:
            self._throughput()
        if settings.invocation_logging:
            self._invocation_logging()
        if settings.guardrail:
            guardrail = ContentGuardrail(
                self,
                "Content",
                names=self.names,
                settings=settings.guardrail,
                key=estate.logs,
            ).guardrail
            publish(self, self.names, {"bedrock/guardrail": guardrail.attr_guardrail_id})

    def _throughput(self) -> None:
        environment = self.environment_settings
        ours = {"StringEquals": {"aws:ResourceTag/TemperPrefix": self.names.prefix}}
        tagged = {"StringEquals": {"aws:RequestTag/TemperPrefix": self.names.prefix}}
        throughput = self.names.arn("bedrock", "provisioned-model/*")
        models = [
            self.names.arn("bedrock", "custom-model/*"),
            f"arn:{self.partition}:bedrock:{self.region}::foundation-model/*",
        ]
        provider = AwaitedProvider(
            self,
            "Throughput",
            module="provisioned_throughput",
            estate=self._estate,
            wait=True,
            statements=[
                # The call is authorized against the model it is made from, and by its tags.
                allow("Make", ["bedrock:CreateProvisionedModelThroughput"], models, tagged),
                allow("Tag", ["bedrock:TagResource"], [throughput], tagged),
                allow(
                    "Keep",
                    [
                        "bedrock:DeleteProvisionedModelThroughput",
                        "bedrock:GetProvisionedModelThroughput",
                        "bedrock:UpdateProvisionedModelThroughput",
                    ],
                    [throughput],
                    ours,
                ),
            ],
        )
        self.handlers += provider.handlers
        for each in environment.bedrock.throughput:
            provider.resource(
                each.name,
                "ProvisionedThroughput",
                {
                    "Name": f"{self.names.prefix}-{each.name}",
                    "Model": each.model,
                    "Units": each.units,
                    "Commitment": each.commitment or "",
                    "AcknowledgeCommitment": each.acknowledge_commitment,
                    "Generation": each.generation,
                    "Tags": {
                        "TemperPrefix": self.names.prefix,
                        "Owner": environment.owner,
                        "Environment": environment.name,
                        "CostCentre": environment.cost_centre,
                    },
                },
            )

    def _invocation_logging(self) -> None:
        name = f"/temper/{self.names.prefix}/bedrock-invocations"
        group = EncryptedLogGroup(
            self,
            "Invocations",
            name=name,
            key=self._estate.logs,
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
            estate=self._estate,
            wait=False,
            statements=[
                # The setting is one per account: its calls take no resource.
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
        self.handlers += provider.handlers
        provider.resource(
            "Setting",
            "InvocationLogging",
            {"LogGroupName": group.log_group_name, "RoleArn": role.role_arn},
        )
