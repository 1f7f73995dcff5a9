"""VPC in the zones of the environment file, isolated or with NAT."""

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from stacks.settings.network import NetworkSettings


class PrivateNetwork(Construct):
    """VPC in whose subnets no instance gets a public address."""

    def __init__(self, scope: Construct, id: str, *, settings: NetworkSettings) -> None:
        super().__init__(scope, id)
        isolated = settings.mode == "isolated"
        layers = [
            ec2.SubnetConfiguration(
                name="Private",
                cidr_mask=settings.private_mask,
                subnet_type=ec2.SubnetType.PRIVATE_ISOLATED
                if isolated
                else ec2.SubnetType.PRIVATE_WITH_EGRESS,
            )
        ]
        if not isolated:
            layers.append(
                ec2.SubnetConfiguration(
                    name="Nat",
                    cidr_mask=27,
                    subnet_type=ec2.SubnetType.PUBLIC,
                    map_public_ip_on_launch=False,
                )
            )
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(str(settings.cidr)),
            availability_zones=[zone.name for zone in settings.zones],
            nat_gateways=0 if isolated else settings.nat_gateways,
            subnet_configuration=layers,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            # CDK would need a custom resource with a function; no interface uses the default group.
            restrict_default_security_group=False,
        )
        cdk.Validations.of(self.vpc).acknowledge(
            cdk.Acknowledgment(
                id="CloudFormation-Validate::W3010",
                reason="Accelerators are offered zone by zone: the environment file names them.",
            )
        )
        self.subnets = [
            *self.vpc.isolated_subnets,
            *self.vpc.private_subnets,
        ]
