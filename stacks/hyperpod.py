"""Stack of the HyperPod cluster, disabled by default: nodes, compute quotas and health events."""

from datetime import date

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.aws_data.tables import eks_versions, region_has
from stacks.constructs.cluster_log_group import ClusterLogGroup
from stacks.constructs.compute_quotas import QUOTA, ComputeQuotas
from stacks.constructs.eks_api_access import EksApiAccess
from stacks.constructs.eks_cluster import EksForHyperPod
from stacks.constructs.eks_job_identity import EksJobIdentity
from stacks.constructs.eks_nodes import EksNodes
from stacks.constructs.health_event_bridge import HealthEventBridge
from stacks.constructs.hyperpod_cluster import HyperPodCluster
from stacks.constructs.hyperpod_lifecycle import HyperPodLifecycle
from stacks.constructs.node_access import NodeAccess
from stacks.constructs.service_role import ServiceRole
from stacks.constructs.slurm_accounting import SlurmAccounting
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.network import NetworkStack
from stacks.policies import hyperpod_autoscaling
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
                logs_key=security.context.logs,
                removal=self.removal,
            )
            parameters |= {"hyperpod/eks": eks.cluster.ref, **self._job_parameters()}
            self._warn_about_support(settings.eks.version)
            if not settings.eks.chart_installed:
                cdk.Annotations.of(self).add_warning_v2(
                    "temper:nodes-wait-for-the-chart",
                    "HyperPod nodes are omitted until its chart is in the EKS cluster: install "
                    "it (docs/platform/hyperpod.md), set hyperpod.eks.chart_installed: true, "
                    "deploy again",
                )
                del parameters["hyperpod/cluster"]
                publish_parameters(self, self.names, parameters)
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
            parameters |= {
                "hyperpod/eks": settings.eks_cluster_arn.rpartition("/")[2],
                **self._job_parameters(),
            }
        lifecycle = self._add_lifecycle(environment, security, storage)
        autoscaling = self._add_autoscaling_role(security)
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
            autoscaling_role=autoscaling.role if autoscaling else None,
            lifecycle=lifecycle.config if lifecycle else None,
        ).cluster
        self.cluster.cluster_name = self.cluster_name
        if accounting:
            self.accounting_database = accounting.database.ref
        self.cluster.node.add_dependency(
            *(lifecycle.ready if lifecycle else ()),
            *((accounting.read_password_policy,) if accounting else ()),
            *((autoscaling,) if autoscaling else ()),
        )
        log = ClusterLogGroup(
            self,
            "Log",
            context=security.context,
            cluster=self.cluster,
            cluster_name=self.cluster_name,
            days=environment.training.log_days,
        )
        if eks_cluster_arn:
            self._add_eks_access(
                self.cluster, security, network, eks_cluster_arn, parameters["hyperpod/eks"]
            )
        if eks:
            eks.add_node_addons(self.cluster)
        if settings.orchestrator == "slurm":
            parameters |= self._add_slurm_access(self.cluster, security, log)
        if settings.task_governance:
            self._add_compute_quotas(self.cluster, settings.task_governance)
        publish_parameters(self, self.names, parameters)

    def _job_parameters(self) -> dict[str, str]:
        """Return the parameters of jobs on EKS: namespaces, teams and autoscaled groups."""
        settings = self.environment_settings.hyperpod
        parameters = {"hyperpod/namespaces": ",".join(self._job_namespaces())}
        if teams := self._job_teams():
            parameters["hyperpod/teams"] = ",".join(teams)
        if groups := settings.autoscaled_groups:
            parameters["hyperpod/autoscaled-groups"] = ",".join(
                f"{group.name}:{group.instance}:{scale.max_count}:{scale.idle_minutes}"
                for group in groups
                if (scale := group.autoscale)
            )
        return parameters

    def _job_teams(self) -> list[str]:
        """Return the teams that share the EKS cluster; without quotas they have no namespace."""
        governance = self.environment_settings.hyperpod.task_governance
        if governance is None or not region_has(self.environment_settings.region, QUOTA):
            return []
        return [team.name for team in governance.teams]

    def _job_namespaces(self) -> list[str]:
        """Return the namespaces of jobs on EKS: one for each team, or a single one."""
        settings = self.environment_settings.hyperpod
        return list(settings.namespaces) if self._job_teams() else [settings.namespace]

    def _add_eks_access(
        self,
        cluster: sagemaker.CfnCluster,
        security: SecurityStack,
        network: NetworkStack,
        eks_cluster_arn: str,
        eks_cluster_name: str,
    ) -> None:
        """Let nodes run pods, pods of jobs call AWS, and engineers reach the API server.

        Args:
            cluster: The HyperPod cluster, which waits for the permissions of its nodes.
            security: Stack of the roles.
            network: Stack of the subnets.
            eks_cluster_arn: The EKS cluster.
            eks_cluster_name: Its name.
        """
        EksJobIdentity(
            self,
            "EksJobIdentity",
            context=security.context,
            environment=self.environment_settings,
            cluster_name=eks_cluster_name,
            cluster_arn=eks_cluster_arn,
            namespaces=self._job_namespaces(),
        )
        nodes = EksNodes(
            self,
            "EksNodes",
            names=self.names,
            subnets=network.subnets,
            role=security.node_role,
            cluster_arn=eks_cluster_arn,
        )
        cluster.node.add_dependency(nodes.policy)
        EksApiAccess(
            self,
            "EksApiAccess",
            names=self.names,
            cluster_arn=cluster.attr_cluster_arn,
            engineer=security.engineer_role,
        )

    def _add_autoscaling_role(self, security: SecurityStack) -> ServiceRole | None:
        """Return the role with which HyperPod's managed Karpenter scales groups, if there are any.

        The cluster waits for it, so that it has its permissions when HyperPod first uses it.
        """
        if not self.environment_settings.hyperpod.autoscaled_groups:
            return None
        role = ServiceRole(
            self,
            "Autoscaling",
            service="hyperpod.sagemaker.amazonaws.com",
            description="Lets HyperPod add nodes to groups and remove idle ones",
            source_arns=[self.names.arn("sagemaker", "cluster/*")],
        )
        role.attach_policy(*hyperpod_autoscaling.statements(security.context))
        return role

    def _warn_about_support(self, version: str) -> None:
        ends = eks_versions().get(version)
        if ends and ends < date.today():
            cdk.Annotations.of(self).add_warning_v2(
                "temper:eks-extended-support",
                f"EKS's standard support of Kubernetes {version} ended on {ends}, and the cluster "
                "costs six times as much per hour; raise hyperpod.eks.version by one",
            )

    def _warn_of_placement(self) -> None:
        for warning in placement_warnings(self.environment_settings):
            cdk.Annotations.of(self).add_warning_v2("temper:zones", warning)

    def _add_slurm_access(
        self, cluster: sagemaker.CfnCluster, security: SecurityStack, log: ClusterLogGroup
    ) -> dict[str, str]:
        """Add health events and the access of engineers, and return the parameters to publish."""
        self.bridge = HealthEventBridge(
            self,
            "HealthEvents",
            names=self.names,
            context=security.context,
            log=log,
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
