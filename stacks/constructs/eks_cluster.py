"""EKS cluster for HyperPod nodes: private API server, control-plane logs, access by role only."""

from collections.abc import Sequence

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks as eks
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.service_role import ServiceRole
from stacks.naming import ResourceNames
from stacks.settings.hyperpod import EksCluster

# DaemonSets install without a node. CoreDNS and the Lustre driver are deployments: CloudFormation
# waits until they run, so they are created after the nodes.
ADDONS_BEFORE_NODES = ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")
ADDONS_ON_NODES = ("coredns", "aws-fsx-csi-driver")
POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKS{}Policy"
NAMESPACE = "temper"


class EksForHyperPod(Construct):
    """EKS cluster whose API server is reachable inside the VPC only.

    Administrators get cluster-wide access; engineers may edit one namespace.

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
                endpoint_public_access=False,
            ),
            access_config=eks.CfnCluster.AccessConfigProperty(
                authentication_mode="API", bootstrap_cluster_creator_admin_permissions=False
            ),
            logging=eks.CfnCluster.LoggingProperty(
                cluster_logging=eks.CfnCluster.ClusterLoggingProperty(
                    enabled_types=[
                        eks.CfnCluster.LoggingTypeConfigProperty(type=kind)
                        for kind in (
                            "api",
                            "audit",
                            "authenticator",
                            "controllerManager",
                            "scheduler",
                        )
                    ]
                )
            ),
        )
        for index, administrator in enumerate(settings.administrators):
            self._access_entry(f"Administrator{index}", administrator, "ClusterAdmin")
        self._access_entry("Engineer", engineer.role_arn, "Edit", NAMESPACE)
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
        self, id: str, role_arn: str, policy: str, namespace: str | None = None
    ) -> None:
        scope = eks.CfnAccessEntry.AccessScopeProperty(
            type="namespace" if namespace else "cluster",
            namespaces=[namespace] if namespace else None,
        )
        eks.CfnAccessEntry(
            self,
            id,
            cluster_name=self.cluster.ref,
            principal_arn=role_arn,
            access_policies=[
                eks.CfnAccessEntry.AccessPolicyProperty(
                    policy_arn=POLICY.format(policy), access_scope=scope
                )
            ],
        )
