"""Stack of the HyperPod cluster, disabled by default: nodes, compute quotas and health events."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.constructs.compute_quotas import ComputeQuotas
from stacks.constructs.eks_cluster import EksForHyperPod
from stacks.constructs.eks_nodes import EksNodes
from stacks.constructs.health_event_bridge import HealthEventBridge
from stacks.constructs.hyperpod_cluster import HyperPodCluster
from stacks.constructs.hyperpod_lifecycle import HyperPodLifecycle
from stacks.constructs.node_access import NodeAccess
from stacks.constructs.slurm_accounting import SlurmAccounting
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.network import NetworkStack
from stacks.security import SecurityStack
from stacks.settings import Environment
from stacks.settings.hyperpod import TaskGovernance
from stacks.settings.placement import cluster_zones, placement_warnings
from stacks.storage import StorageStack
from stacks.temper_stack import TemperStack


class HyperPodStack(TemperStack):
    """Stack with the cluster `<prefix>-cluster`, orchestrated by Slurm or EKS.

    A new EKS cluster takes two deployments: HyperPod refuses nodes until its Helm chart is
    installed,
    and the chart can be installed only when the cluster exists.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        security: SecurityStack,
        network: NetworkStack,
        storage: StorageStack,
    ) -> None:
        super().__init__(scope, "hyperpod", environment=environment)
        assert storage.lustre is not None, "the storage stack creates it if HyperPod is enabled"
        settings = environment.hyperpod
        zones = cluster_zones(environment)
        cluster_subnets = [network.subnet_by_zone[zone] for zone in zones]
        self._warn_of_placement()
        self.cluster_name = f"{self.names.prefix}-cluster"
        parameters = {"hyperpod/cluster": self.cluster_name}
        self.cluster: sagemaker.CfnCluster | None = None
        self.bridge: HealthEventBridge | None = None
        self.accounting_database: str | None = None
        eks = None
        if settings.eks:
            eks = EksForHyperPod(
                self,
                "Eks",
                names=self.names,
                settings=settings.eks,
                subnets=cluster_subnets,
                group=network.nodes,
                engineer=security.engineer_role,
            )
            parameters["hyperpod/eks"] = eks.cluster.ref
            if not settings.eks.chart_installed:
                cdk.Annotations.of(self).add_warning_v2(
                    "temper:nodes-wait-for-the-chart",
                    "HyperPod nodes are omitted until its chart is in the EKS cluster: install "
                    "it (docs/platform.md), set hyperpod.eks.chart_installed: true, deploy again",
                )
                publish_parameters(self, self.names, {"hyperpod/eks": eks.cluster.ref})
                return
        accounting = None
        controller_role = security.controller_role
        if settings.accounting:
            assert controller_role is not None, (
                "the security stack creates it with hyperpod.accounting"
            )
            accounting = SlurmAccounting(
                self,
                "Accounting",
                names=self.names,
                settings=settings.accounting,
                vpc=network.vpc,
                subnets=network.subnets,
                nodes=network.nodes,
                password_reader=controller_role,
                key=security.context.data,
            )
        eks_cluster_arn = eks.cluster.attr_arn if eks else settings.eks_cluster_arn
        if settings.eks_cluster_arn:
            parameters["hyperpod/eks"] = settings.eks_cluster_arn.rpartition("/")[2]
        lifecycle = self._add_lifecycle(environment, security, storage)
        self.cluster = HyperPodCluster(
            self,
            "HyperPod",
            settings=settings,
            subnets=network.subnet_by_zone,
            zones=zones,
            group=network.nodes,
            role=security.node_role,
            controller_role=controller_role or security.node_role,
            key=security.context.data,
            lustre=storage.lustre.file_system,
            eks_cluster_arn=eks_cluster_arn,
            accounting=accounting,
            lifecycle=lifecycle.config if lifecycle else None,
        ).cluster
        self.cluster.cluster_name = self.cluster_name
        if accounting:
            self.accounting_database = accounting.database.ref
        self.cluster.node.add_dependency(
            *(lifecycle.ready if lifecycle else ()),
            *((accounting.read_password_policy,) if accounting else ()),
        )
        if eks_cluster_arn:
            nodes = EksNodes(
                self,
                "EksNodes",
                names=self.names,
                subnets=network.subnets,
                role=security.node_role,
                cluster_arn=eks_cluster_arn,
            )
            self.cluster.node.add_dependency(nodes.policy)
        if eks:
            eks.add_node_addons(self.cluster)
        if settings.orchestrator == "slurm":
            parameters |= self._add_slurm_access(self.cluster, security)
        if settings.task_governance:
            self._add_compute_quotas(self.cluster, settings.task_governance)
        publish_parameters(self, self.names, parameters)

    def _warn_of_placement(self) -> None:
        for warning in placement_warnings(self.environment_settings):
            cdk.Annotations.of(self).add_warning_v2("temper:zones", warning)

    def _add_slurm_access(
        self, cluster: sagemaker.CfnCluster, security: SecurityStack
    ) -> dict[str, str]:
        """Add health events and the access of engineers, and return the parameters to publish."""
        self.bridge = HealthEventBridge(
            self,
            "HealthEvents",
            names=self.names,
            context=security.context,
            cluster=cluster,
            cluster_name=self.cluster_name,
        )
        access = NodeAccess(
            self,
            "NodeAccess",
            names=self.names,
            cluster_arn=cluster.attr_cluster_arn,
            engineer=security.engineer_role,
        )
        return {
            "hyperpod/software": self.environment_settings.hyperpod.software,
            "hyperpod/key-document": access.document_name,
        }

    def _add_lifecycle(
        self, environment: Environment, security: SecurityStack, storage: StorageStack
    ) -> HyperPodLifecycle | None:
        if not environment.hyperpod.on_slurm:
            return None
        return HyperPodLifecycle(
            self,
            "Lifecycle",
            environment=environment,
            context=security.context,
            nodes=[role for role in (security.node_role, security.controller_role) if role],
            access_logs=storage.access_logs,
            removal=self.removal,
        )

    def _add_compute_quotas(self, cluster: sagemaker.CfnCluster, settings: TaskGovernance) -> None:
        region = self.environment_settings.region
        governance = ComputeQuotas(
            self,
            "Governance",
            settings=settings,
            cluster_arn=cluster.attr_cluster_arn,
            region=region,
            prefix=self.names.prefix,
        )
        for kind in governance.missing:
            cdk.Annotations.of(self).add_warning_v2(
                "temper:region-lacks-type",
                f"{region} has no {kind}: that part of task_governance is omitted",
            )
