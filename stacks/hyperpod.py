"""A standing cluster, off unless asked for: nodes, their shares, and news of their health."""

import aws_cdk as cdk
from constructs import Construct

from stacks.network import NetworkStack
from stacks.parts.health_event_bridge import HealthEventBridge
from stacks.parts.hyperpod_cluster import HyperPodCluster
from stacks.parts.published import publish
from stacks.parts.task_governance import TaskGovernanceShares
from stacks.security import SecurityStack
from stacks.settings import Environment
from stacks.storage import StorageStack
from stacks.temper_stack import TemperStack


class HyperPodStack(TemperStack):
    """The cluster `<prefix>-cluster`."""

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
        assert storage.lustre is not None, "the storage stack makes it when HyperPod is on"
        settings = environment.hyperpod
        zones = [zone.name for zone in environment.network.zones]
        self.cluster_name = f"{self.names.prefix}-cluster"
        self.cluster = HyperPodCluster(
            self,
            "HyperPod",
            settings=settings,
            subnets=dict(zip(zones, network.subnets, strict=True)),
            group=network.nodes,
            role=security.node_role,
            key=security.estate.data,
            lustre=storage.lustre.file_system,
        ).cluster
        self.cluster.cluster_name = self.cluster_name
        self.bridge = None
        if settings.orchestrator == "slurm":
            self.bridge = HealthEventBridge(
                self,
                "HealthEvents",
                names=self.names,
                estate=security.estate,
                cluster=self.cluster,
                cluster_name=self.cluster_name,
            )
        if settings.task_governance:
            governance = TaskGovernanceShares(
                self,
                "Governance",
                settings=settings.task_governance,
                cluster_arn=self.cluster.attr_cluster_arn,
                region=environment.region,
                prefix=self.names.prefix,
            )
            for kind in governance.missing:
                cdk.Annotations.of(self).add_warning_v2(
                    "temper:region-lacks-type",
                    f"{environment.region} has no {kind}: that part of task_governance is left out",
                )
        publish(self, self.names, {"hyperpod/cluster": self.cluster_name})
