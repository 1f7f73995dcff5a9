"""EKS cluster for HyperPod nodes: private API server, control-plane logs, access by role only.

None of EKS's access policies fits an engineer: `AmazonEKSEditPolicy` covers no object of
kubeflow.org, and reads secrets and impersonates service accounts;
`AmazonSagemakerHyperpodTrainingPolicy` cannot create the ConfigMap of a job
(docs.aws.amazon.com/eks/latest/userguide/access-policy-permissions.html,
docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-studio-setup-eks.html). The engineer's
access entry therefore names a Kubernetes group, to which `temper cluster-setup` binds a role.
"""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks as eks
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.constructs.encrypted_log_group import EncryptedLogGroup
from stacks.constructs.service_role import ServiceRole
from stacks.naming import ResourceNames
from stacks.settings.hyperpod import EksCluster

# DaemonSets install without a node. CoreDNS and the Lustre driver are deployments: CloudFormation
# waits until they run, so they are created after the nodes.
ADDONS_BEFORE_NODES = ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")
ADDONS_ON_NODES = ("coredns", "aws-fsx-csi-driver")
POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKS{}Policy"
ENGINEERS = "temper-engineers"
"""Kubernetes group of the engineer role; `launch.eks.cluster_objects` binds its permissions."""
LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
LOG_DAYS = 90


class EksForHyperPod(Construct):
    """EKS cluster whose API server is reachable inside the VPC, and from ranges in the settings.

    Administrators get cluster-wide access; engineers get what their Kubernetes group is granted.

    Attributes:
        cluster: The EKS cluster.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        settings: EksCluster,
        subnets: Sequence[ec2.ISubnet],
        group: ec2.ISecurityGroup,
        engineer: iam.IRole,
        logs_key: kms.IKey,
        removal: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id)
        name = names.eks_cluster
        role = ServiceRole(
            self,
            "Role",
            service="eks.amazonaws.com",
            description="Lets EKS run the cluster",
            source_arns=[names.arn("eks", f"cluster/{name}")],
        ).role
        role.add_managed_policy(
            iam.ManagedPolicy.from_aws_managed_policy_name("AmazonEKSClusterPolicy")
        )
        self.cluster = eks.CfnCluster(
            self,
            "Cluster",
            name=name,
            version=settings.version,
            role_arn=role.role_arn,
            resources_vpc_config=eks.CfnCluster.ResourcesVpcConfigProperty(
                subnet_ids=[subnet.subnet_id for subnet in subnets],
                security_group_ids=[group.security_group_id],
                endpoint_private_access=True,
                endpoint_public_access=bool(settings.public_access_cidrs),
                public_access_cidrs=[str(cidr) for cidr in settings.public_access_cidrs] or None,
            ),
            access_config=eks.CfnCluster.AccessConfigProperty(
                authentication_mode="API", bootstrap_cluster_creator_admin_permissions=False
            ),
            logging=eks.CfnCluster.LoggingProperty(
                cluster_logging=eks.CfnCluster.ClusterLoggingProperty(
                    enabled_types=[
                        eks.CfnCluster.LoggingTypeConfigProperty(type=each) for each in LOG_TYPES
                    ]
                )
            ),
        )
        if settings.own_log_group:
            # EKS creates the group without a key and without a retention period, if it is missing.
            log = EncryptedLogGroup(
                self,
                "Log",
                name=f"/aws/eks/{name}/cluster",
                key=logs_key,
                days=LOG_DAYS,
                removal=removal,
            )
            self.cluster.node.add_dependency(log)
        for index, administrator in enumerate(settings.administrators):
            self._access_entry(f"Administrator{index}", administrator, policy="ClusterAdmin")
        self._access_entry("Engineer", engineer.role_arn, group=ENGINEERS)
        self._create_addons(ADDONS_BEFORE_NODES)

    def add_node_addons(self, nodes: Construct) -> None:
        """Create the add-ons whose pods need a node.

        Without a node CloudFormation would wait for them until it times out.
        """
        for addon in self._create_addons(ADDONS_ON_NODES):
            addon.node.add_dependency(nodes)

    def _create_addons(self, names: Sequence[str]) -> list[eks.CfnAddon]:
        return [
            eks.CfnAddon(
                self,
                "".join(part.title() for part in name.split("-")),
                addon_name=name,
                cluster_name=self.cluster.ref,
                resolve_conflicts="OVERWRITE",
            )
            for name in names
        ]

    def _access_entry(
        self, id: str, role_arn: str, *, policy: str | None = None, group: str | None = None
    ) -> None:
        """Create the access entry of a role.

        Args:
            id: Construct id of the entry.
            role_arn: Role that gets access.
            policy: Access policy of EKS for the whole cluster, without prefix and suffix.
            group: Kubernetes group of the role.
        """
        in_cluster = eks.CfnAccessEntry.AccessScopeProperty(type="cluster")
        eks.CfnAccessEntry(
            self,
            id,
            cluster_name=self.cluster.ref,
            principal_arn=role_arn,
            kubernetes_groups=[group] if group else None,
            access_policies=[
                eks.CfnAccessEntry.AccessPolicyProperty(
                    policy_arn=POLICY.format(policy), access_scope=in_cluster
                )
            ]
            if policy
            else None,
        )
