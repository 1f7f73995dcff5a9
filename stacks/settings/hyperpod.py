"""Settings of the HyperPod cluster, disabled by default: Slurm, or EKS on a new or own cluster."""

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stacks.settings.base import InstanceType, RoleArn, SettingsSection
from stacks.settings.network import ZoneName

TEAM_NAMESPACE = "hyperpod-ns-{}"
"""Namespace that task governance creates for a team."""
KubernetesName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
GroupName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")]


class GroupAutoscaling(SettingsSection):
    """Settings of a group to which HyperPod's managed Karpenter adds nodes, and removes idle ones.

    All nodes of such a group are in one zone, the group's `zone`.
    """

    max_count: int = Field(ge=1, le=6758)
    idle_minutes: int = Field(15, ge=1, le=1440, description="removes an empty node after these")


class InstanceGroup(SettingsSection):
    """Group of identical nodes."""

    name: GroupName
    instance: InstanceType
    count: int = Field(ge=0, le=6758)
    role: Literal["controller", "login", "compute"] = "compute"
    partition: str | None = None
    spot: bool = False
    training_plan: (
        Annotated[
            str,
            StringConstraints(
                pattern=r"^arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{12}:training-plan/.+$"
            ),
        ]
        | None
    ) = None
    training_plan_zone: str | None = Field(None, description="zone of the training plan")
    zone: ZoneName | None = None
    volume_gib: int = Field(500, ge=1, le=16384)
    deep_health_checks: bool = True
    autoscale: GroupAutoscaling | None = None

    @model_validator(mode="after")
    def _plan_or_spot(self) -> "InstanceGroup":
        if self.spot and self.training_plan:
            raise ValueError(
                f"group {self.name!r} has spot: true and a training_plan; capacity of a plan is "
                "reserved, so remove one of them"
            )
        if self.training_plan and not self.training_plan_zone:
            raise ValueError(
                f"group {self.name!r} names a training_plan without training_plan_zone; "
                "`aws sagemaker describe-training-plan` prints its AvailabilityZone"
            )
        if self.zone and self.training_plan_zone not in (None, self.zone):
            raise ValueError(
                f"group {self.name!r} has zone: {self.zone} and a plan for "
                f"{self.training_plan_zone}; the plan's zone applies, so remove zone"
            )
        return self

    @property
    def largest_count(self) -> int:
        """Number of nodes that the group may have."""
        return self.autoscale.max_count if self.autoscale else self.count


class TeamQuota(SettingsSection):
    """Compute quota of a team (EKS only)."""

    name: str
    instance: InstanceType
    count: int = Field(ge=1)
    weight: int = Field(0, ge=0, le=100)
    borrow_limit: int = Field(50, ge=0, le=500, description="limit in percent of its own share")


class TaskGovernance(SettingsSection):
    """Priority classes and team quotas, in Regions that support them."""

    priorities: dict[str, int] = Field(default_factory=lambda: {"training": 80, "exploration": 20})
    teams: tuple[TeamQuota, ...] = ()


class Accounting(SettingsSection):
    """Settings of the database for Slurm accounting."""

    instance: Annotated[str, StringConstraints(pattern=r"^db\.[a-z0-9]+\.[a-z0-9]+$")] = (
        "db.t4g.small"
    )
    storage_gib: int = Field(20, ge=20, le=65536)
    backup_days: int = Field(7, ge=1, le=35)


class EksCluster(SettingsSection):
    """Settings of an EKS cluster that the platform creates for HyperPod.

    The Helm chart of HyperPod must be installed before nodes can join, so the cluster is deployed
    twice: first without `chart_installed`, and with it once the chart is installed.
    """

    version: Annotated[str, StringConstraints(pattern=r"^1\.[0-9]{2}$")] = "1.35"
    administrators: tuple[RoleArn, ...] = Field(min_length=1)
    chart_installed: bool = False
    public_access_cidrs: tuple[IPv4Network, ...] = ()
    own_log_group: bool = True


class HyperPodSettings(SettingsSection):
    """Settings of the cluster and its instance groups."""

    enabled: bool = Field(False, description="create a HyperPod cluster")
    orchestrator: Literal["slurm", "eks"] = Field(
        "slurm", description="slurm, or eks on a new or existing EKS cluster"
    )
    eks_cluster_arn: (
        Annotated[
            str,
            StringConstraints(pattern=r"^arn:aws[a-z-]*:eks:[a-z0-9-]+:[0-9]{12}:cluster/.+$"),
        ]
        | None
    ) = Field(None, description="ARN of an existing EKS cluster")
    eks: EksCluster | None = Field(
        None,
        description="create an EKS cluster: `{version, administrators, chart_installed, "
        "public_access_cidrs, own_log_group}`",
    )
    namespace: KubernetesName = Field(
        "hyperpod-ns-temper",
        description="namespace of jobs on EKS; with teams, jobs are in `hyperpod-ns-<team>`",
    )
    zones: tuple[ZoneName, ...] = Field(
        (),
        description="zones of the cluster; fixed once it exists, so name them before you add a "
        "zone to network.zones. none: all",
    )
    accounting: Accounting | None = Field(
        None, description="database for Slurm accounting: `{instance, storage_gib, backup_days}`"
    )
    groups: tuple[InstanceGroup, ...] = Field(
        (),
        description="instance groups: `{name, instance, count, role, partition, spot, "
        "training_plan, training_plan_zone, zone, volume_gib, deep_health_checks, autoscale}`; "
        "`autoscale: {max_count, idle_minutes}`",
    )
    node_recovery: bool = Field(True, description="replace failed nodes automatically")
    quotas: dict[InstanceType, int] = Field(
        default_factory=dict,
        description="granted quotas by instance type, as Service Quotas shows for '<type> for "
        "cluster usage'",
    )
    task_governance: TaskGovernance | None = Field(
        None,
        description="priorities and compute quotas of teams (eks only, in Regions with these "
        "resource types)",
    )

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Namespaces of jobs on EKS: one for each team, or `namespace` if there are no teams."""
        teams = self.task_governance.teams if self.task_governance else ()
        names = dict.fromkeys(TEAM_NAMESPACE.format(team.name) for team in teams)
        return tuple(names) or (self.namespace,)

    @property
    def autoscaled_groups(self) -> tuple[InstanceGroup, ...]:
        """Groups that Karpenter scales."""
        return tuple(group for group in self.groups if group.autoscale)
