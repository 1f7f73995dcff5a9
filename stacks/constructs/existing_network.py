"""VPC and private subnets that exist, as the environment file describes them."""

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from stacks.settings.network import ExistingNetwork


class ExistingVpc(Construct):
    """References to a VPC and to one private subnet per zone. It creates nothing.

    Args:
        zones: Names of the zones, in the order in which the other stacks expect the subnets.
    """

    def __init__(
        self, scope: Construct, id: str, *, settings: ExistingNetwork, zones: list[str]
    ) -> None:
        super().__init__(scope, id)
        self.vpc: ec2.IVpc = ec2.Vpc.from_vpc_attributes(
            self,
            "Vpc",
            vpc_id=settings.vpc_id,
            vpc_cidr_block=str(settings.cidrs[0]),
            availability_zones=zones,
        )
        by_zone = {subnet.zone: subnet for subnet in settings.subnets}
        self.subnets: list[ec2.ISubnet] = [
            ec2.Subnet.from_subnet_attributes(
                self,
                f"Subnet{index}",
                subnet_id=by_zone[zone].id,
                availability_zone=zone,
                ipv4_cidr_block=str(by_zone[zone].cidr),
                route_table_id=by_zone[zone].route_table,
            )
            for index, zone in enumerate(zones)
        ]
        # Route tables are needed for the gateway endpoint only, and a rule asks for them then.
        cdk.Annotations.of(self).acknowledge_warning("@aws-cdk/aws-ec2:noSubnetRouteTableId")
