"""The security group of training nodes: everything among themselves, nothing from elsewhere."""

from aws_cdk import aws_ec2 as ec2
from constructs import Construct


class EfaSecurityGroup(Construct):
    """All traffic from and to itself, as EFA requires of every group on a node, both directions.

    Beyond itself a node reaches HTTPS. In an isolated VPC that leads to its endpoints and, through
    the gateway, to S3, because there is no other route; S3's addresses differ by Region and are in
    no table that synthesis may read.
    """

    def __init__(self, scope: Construct, id: str, *, vpc: ec2.IVpc) -> None:
        super().__init__(scope, id)
        self.group = ec2.SecurityGroup(
            self,
            "Group",
            vpc=vpc,
            description="Training nodes: all traffic among themselves (EFA)",
            allow_all_outbound=False,
        )
        ec2.CfnSecurityGroupIngress(
            self,
            "SelfIngress",
            group_id=self.group.security_group_id,
            source_security_group_id=self.group.security_group_id,
            ip_protocol="-1",
            description="EFA: all traffic among nodes",
        )
        ec2.CfnSecurityGroupEgress(
            self,
            "SelfEgress",
            group_id=self.group.security_group_id,
            destination_security_group_id=self.group.security_group_id,
            ip_protocol="-1",
            description="EFA: all traffic among nodes",
        )
        self.group.add_egress_rule(
            ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "HTTPS to endpoints, and to S3"
        )
