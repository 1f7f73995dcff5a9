"""Database for Slurm accounting, which `sacct` and `sreport` query."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_rds as rds
from constructs import Construct

from stacks.constructs.service_role import ServiceRole
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow
from stacks.settings.hyperpod import Accounting

PORT = 3307  # not the default port of MySQL, which scanners try first
DATABASE = "slurm_acct_db"


class SlurmAccounting(Construct):
    """MySQL database in private subnets, whose password RDS generates, stores and rotates.

    Only `password_reader` may read the password: slurmdbd runs on the controller, so no other node
    needs
    it.

    Attributes:
        database: The database instance.
        secret_arn: ARN of the secret with its user and password.
        read_password_policy: Policy that lets `password_reader` read the secret.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        settings: Accounting,
        vpc: ec2.IVpc,
        subnets: Sequence[ec2.ISubnet],
        nodes: ec2.ISecurityGroup,
        password_reader: iam.IRole,
        key: kms.IKey,
    ) -> None:
        super().__init__(scope, id)
        group = self._group(vpc, nodes)
        subnet_group = rds.CfnDBSubnetGroup(
            self,
            "Subnets",
            db_subnet_group_description="Slurm accounting",
            subnet_ids=[subnet.subnet_id for subnet in subnets],
        )
        monitoring_role = ServiceRole(
            self,
            "Watcher",
            service="monitoring.rds.amazonaws.com",
            description="Writes what RDS measures inside the database's machine",
            source_arns=[names.arn("rds", "db:*")],
            statements=[
                allow(
                    "Write",
                    [
                        "logs:CreateLogGroup",
                        "logs:CreateLogStream",
                        "logs:DescribeLogStreams",
                        "logs:PutLogEvents",
                        "logs:PutRetentionPolicy",
                    ],
                    [
                        names.arn("logs", "log-group:RDSOSMetrics"),
                        names.arn("logs", "log-group:RDSOSMetrics:log-stream:*"),
                    ],
                )
            ],
        ).role
        self.database = rds.CfnDBInstance(
            self,
            "Database",
            engine="mysql",
            engine_version="8.4.9",
            db_instance_class=settings.instance,
            db_name=DATABASE,
            port=str(PORT),
            allocated_storage=str(settings.storage_gib),
            storage_type="gp3",
            storage_encrypted=True,
            kms_key_id=key.key_arn,
            master_username="slurm",
            manage_master_user_password=True,
            master_user_secret=rds.CfnDBInstance.MasterUserSecretProperty(kms_key_id=key.key_arn),
            db_subnet_group_name=subnet_group.ref,
            vpc_security_groups=[group.security_group_id],
            publicly_accessible=False,
            multi_az=True,
            deletion_protection=True,
            delete_automated_backups=False,
            backup_retention_period=settings.backup_days,
            copy_tags_to_snapshot=True,
            auto_minor_version_upgrade=True,
            enable_iam_database_authentication=True,
            enable_cloudwatch_logs_exports=["error", "general", "slowquery"],
            monitoring_interval=60,
            monitoring_role_arn=monitoring_role.role_arn,
        )
        self.database.apply_removal_policy(cdk.RemovalPolicy.SNAPSHOT)
        self.secret_arn = self.database.attr_master_user_secret_secret_arn
        self.read_password_policy = iam.ManagedPolicy(
            self,
            "ReadPassword",
            statements=[
                allow("ReadPassword", ["secretsmanager:GetSecretValue"], [self.secret_arn])
            ],
            roles=[password_reader],
        )

    def _group(self, vpc: ec2.IVpc, nodes: ec2.ISecurityGroup) -> ec2.SecurityGroup:
        group = ec2.SecurityGroup(
            self,
            "Group",
            vpc=vpc,
            description="Slurm accounting: reached by the nodes of the cluster",
            allow_all_outbound=False,
        )
        ec2.CfnSecurityGroupIngress(
            self,
            "FromNodes",
            group_id=group.security_group_id,
            source_security_group_id=nodes.security_group_id,
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            description="slurmdbd to its database",
        )
        ec2.CfnSecurityGroupEgress(
            self,
            "NodesReachIt",
            group_id=nodes.security_group_id,
            destination_security_group_id=group.security_group_id,
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            description="slurmdbd to its database",
        )
        return group
