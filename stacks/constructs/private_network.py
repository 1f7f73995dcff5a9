"""VPC in the zones of the environment file, isolated or with NAT."""

from collections.abc import Sequence
from typing import Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from stacks.settings.address_plan import NAT_PREFIX_LENGTH, nat_subnet, private_subnet
from stacks.settings.network import NetworkSettings


@jsii.implements(ec2.IIpAddresses)
class PlannedAddresses:
    """Address ranges of the subnets, from the address plan of the environment.

    CDK would place the NAT subnets after the last private one, where the next zone belongs.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        self._settings = settings

    @jsii.member(jsii_name="allocateVpcCidr")
    def allocate_vpc_cidr(self) -> ec2.VpcIpamOptions:
        """Return the address range of the VPC."""
        return ec2.VpcIpamOptions(cidr_block=str(self._settings.cidr))

    @jsii.member(jsii_name="allocateSubnetsCidr")
    def allocate_subnets_cidr(
        self, *, requested_subnets: Sequence[Any], vpc_cidr: str
    ) -> ec2.SubnetIpamOptions:
        """Return the address range of each requested subnet, in their order."""
        ranges = {"Private": private_subnet, "Nat": nat_subnet}
        zones = [zone.name for zone in self._settings.zones]
        allocated = [
            ranges[each.configuration.name](self._settings, zones.index(each.availability_zone))
            for each in requested_subnets
        ]
        return ec2.SubnetIpamOptions(
            allocated_subnets=[ec2.AllocatedSubnet(cidr=str(each)) for each in allocated]
        )


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
                    cidr_mask=NAT_PREFIX_LENGTH,
                    subnet_type=ec2.SubnetType.PUBLIC,
                    map_public_ip_on_launch=False,
                )
            )
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=PlannedAddresses(settings),
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
