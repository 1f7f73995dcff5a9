"""Security group of training nodes, with the two self-referencing rules that EFA requires."""

from aws_cdk import aws_ec2 as ec2
from constructs import Construct


class EfaSecurityGroup(Construct):
    """Security group that allows all traffic from itself and to itself.

    EFA requires both rules on every group of a node. Outside the group a node reaches HTTPS only.
    In an
    isolated VPC there is no route except to the VPC endpoints and, through the gateway endpoint, to
    S3;
    the address ranges of S3 differ by Region, so the rule cannot list them at synthesis.
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
