"""Stack of serving: network of endpoints, removal of what has ended, and what deployers may use."""

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from stacks.constructs.job_vpc_guardrails import interface_statements
from stacks.constructs.scheduled_removal import (
    RemovalSchedule,
    ScheduledRemoval,
    removal_of_endpoints,
    removal_of_throughput,
)
from stacks.constructs.service_role import ServiceRole
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.network import NetworkStack
from stacks.policies import model_deployer
from stacks.policies.iam_statements import allow
from stacks.security import SecurityStack
from stacks.settings import Environment
from stacks.temper_stack import TemperStack


class ServingStack(TemperStack):
    """Stack that endpoints need, whether code or `temper deploy-model` creates them.

    Endpoints are billed by the hour, so a schedule removes those past their end, and the idle ones.

    Attributes:
        role: Role of the containers.
        subnets: Ids of the subnets of endpoints.
        group: Id of their security group.
        handler: Function that removes what has ended.
        watch_caller: Role of the schedules that watch deployments; None if none is watched.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        security: SecurityStack,
        network: NetworkStack,
    ) -> None:
        super().__init__(scope, "serving", environment=environment)
        assert security.serving_role and security.deployer_role
        self.role, self._deployer = security.serving_role, security.deployer_role
        self._context = security.context
        group = ec2.SecurityGroup(
            self,
            "Endpoints",
            vpc=network.vpc,
            description="Endpoints: HTTPS to VPC endpoints and S3, and no connection from the VPC",
            allow_all_outbound=False,
        )
        # The address ranges of S3 differ by Region; an isolated VPC has no other way out.
        group.add_egress_rule(
            ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "HTTPS to endpoints, and to S3"
        )
        self.subnets = [subnet.subnet_id for subnet in network.subnets]
        self.group = group.security_group_id
        iam.ManagedPolicy(
            self,
            "NetworkInterfaces",
            roles=[self.role],
            statements=interface_statements(self.names, network.subnets, group),
        )
        self._schedules = f"{self.names.prefix}-deployments"
        schedules = scheduler.CfnScheduleGroup(self, "Schedules", name=self._schedules)
        removal = self._add_removal(schedules)
        self.handler = removal.handler
        self._let_deployers_schedule(removal)
        watched = any(each.watch for each in environment.serving.deployments)
        self.watch_caller: iam.IRole | None = self._add_watch_caller() if watched else None
        allowed = ",".join(environment.serving.allowed_instance_types)
        publish_parameters(
            self,
            self.names,
            {
                "serving/security-group": self.group,
                "serving/undeploy-function": removal.handler.function.function_arn,
                "serving/schedule-group": self._schedules,
                "serving/schedule-role": removal.caller.role_arn,
                **({"serving/allowed-instance-types": allowed} if allowed else {}),
            },
        )

    def _add_removal(self, schedules: scheduler.CfnScheduleGroup) -> ScheduledRemoval:
        # The Bedrock stack removes throughput if there is one.
        throughput = not self.environment_settings.bedrock.enabled
        return ScheduledRemoval(
            self,
            "Removal",
            names=self.names,
            context=self._context,
            kinds=["endpoint", *(["throughput"] if throughput else [])],
            what="deployments",
            log_name="undeploy-deployments",
            statements=[
                *removal_of_endpoints(self.names),
                *(removal_of_throughput(self.names) if throughput else []),
            ],
            schedules=[RemovalSchedule("Ended", "rate(15 minutes)", "idle")],
            group=schedules,
        )

    def _add_watch_caller(self) -> iam.IRole:
        """Add the role with which schedules start the jobs that watch deployments."""
        return ServiceRole(
            self,
            "WatchCaller",
            service="scheduler.amazonaws.com",
            description="Lets schedules start the jobs that watch deployments",
            statements=[
                allow(
                    "StartWatch",
                    ["sagemaker:AddTags", "sagemaker:CreateProcessingJob"],
                    [self.names.arn("sagemaker", f"processing-job/{self.names.prefix}-watch-*")],
                ),
                allow(
                    "PassServingRole",
                    ["iam:PassRole"],
                    [self.role.role_arn],
                    {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
                ),
            ],
        ).role

    def _let_deployers_schedule(self, removal: ScheduledRemoval) -> None:
        """Let deployers schedule the function at the end of a deployment, to the minute."""
        iam.ManagedPolicy(
            self,
            "DeployerFences",
            roles=[self._deployer],
            statements=[
                allow(
                    "ScheduleEnds",
                    [
                        "scheduler:CreateSchedule",
                        "scheduler:DeleteSchedule",
                        "scheduler:GetSchedule",
                        "scheduler:UpdateSchedule",
                    ],
                    [self.names.arn("scheduler", f"schedule/{self._schedules}/*")],
                ),
                allow(
                    "PassScheduleRole",
                    ["iam:PassRole"],
                    [removal.caller.role_arn],
                    {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}},
                ),
                *model_deployer.subnet_statements(self.subnets, self.group, self._context),
            ],
        )
