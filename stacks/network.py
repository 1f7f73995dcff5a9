"""Stack of the network: the VPC, or an existing one; VPC endpoints; the EFA security group."""

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.constructs.efa_security_group import EfaSecurityGroup
from stacks.constructs.endpoints import VpcEndpoints
from stacks.constructs.existing_network import ExistingVpc
from stacks.constructs.flow_logs import FlowLogs
from stacks.constructs.private_network import PrivateNetwork
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.settings import Environment
from stacks.temper_stack import TemperStack


class NetworkStack(TemperStack):
    """Stack with a VPC that accepts no connection from outside, or with ours in an existing one."""

    def __init__(self, scope: Construct, *, environment: Environment, logs_key: kms.IKey) -> None:
        super().__init__(scope, "network", environment=environment)
        settings = environment.network
        zones = [zone.name for zone in settings.zones]
        network = (
            ExistingVpc(self, "Network", settings=settings.existing, zones=zones)
            if settings.existing
            else PrivateNetwork(self, "Network", settings=settings)
        )
        self.vpc: ec2.IVpc = network.vpc
        self.subnets: list[ec2.ISubnet] = [*network.subnets]
        self.subnet_by_zone = dict(zip(zones, self.subnets, strict=True))
        if settings.existing is None or settings.existing.flow_logs:
            FlowLogs(
                self,
                "FlowLogs",
                vpc=self.vpc,
                key=logs_key,
                days=settings.flow_log_days,
                removal=self.removal,
            )
        VpcEndpoints(
            self,
            "Endpoints",
            vpc=self.vpc,
            subnets=self.subnet_by_zone,
            environment=environment,
            names=self.names,
        )
        self.nodes: ec2.SecurityGroup = EfaSecurityGroup(self, "Nodes", vpc=self.vpc).group
        publish_parameters(
            self,
            self.names,
            {
                "network/subnets": ",".join(subnet.subnet_id for subnet in self.subnets),
                "network/security-groups": self.nodes.security_group_id,
                "network/internet": str(settings.mode == "private").lower(),
            },
        )
