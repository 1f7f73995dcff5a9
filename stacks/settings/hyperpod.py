"""Settings of the HyperPod cluster, disabled by default: Slurm, or EKS on a new or own cluster."""

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stacks.settings.base import InstanceType, RoleArn, SettingsSection, matching
from stacks.settings.network import ZoneName

TEAM_NAMESPACE = "hyperpod-ns-{}"
"""Namespace that task governance creates for a team."""
KubernetesName = Annotated[
    str,
    matching(
        r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        "a name of at most 63 lower-case letters, digits and inner hyphens",
    ),
]
UserName = Annotated[
    str,
    matching(
        r"[a-z][a-z0-9_-]{0,31}",
        "a user of Linux: lower-case letters, digits, _ and -, at most 32",
    ),
]
GroupName = Annotated[
    str,
    matching(
        r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
        "a name of at most 63 letters, digits and inner hyphens",
    ),
]


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
            matching(
                r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{12}:training-plan/.+",
                "the ARN of a training plan, arn:aws:sagemaker:REGION:ACCOUNT:training-plan/NAME",
            ),
        ]
        | None
    ) = None
    training_plan_zone: str | None = Field(None, description="zone of the training plan")
    zone: ZoneName | None = None
    volume_gib: int = Field(500, ge=1, le=16384)
    encrypt_root_volume: bool = True
    deep_health_checks: bool = True
    autoscale: GroupAutoscaling | None = None
    image_id: (
        Annotated[
            str,
            matching(
                r"(ami-[0-9a-fA-F]{8,17}|default)",
                "an AMI id such as ami-0123456789abcdef0, or default",
            ),
        ]
        | None
    ) = Field(None, description="AMI of the nodes; none: the newest of HyperPod")
    auto_patch: Literal["WhenIdle", "WhenAllIdle"] | None = Field(
        None, description="patch nodes automatically when they, or all of the group, are idle"
    )
    update_schedule: str | None = Field(
        None, description="cron(…) at which the AMI is updated, whatever runs then"
    )

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

    instance: Annotated[
        str,
        matching(
            r"db\.[a-z][0-9a-z]*\.(micro|small|medium|large|[0-9]*xlarge)",
            "an instance class of RDS, like db.t4g.small",
        ),
    ] = "db.t4g.small"
    storage_gib: int = Field(20, ge=20, le=65536)
    backup_days: int = Field(7, ge=1, le=35)


class ContainerPackage(SettingsSection):
    """Package of Enroot (`.deb`) or source archive of Pyxis (`.tar.gz`), with its digest."""

    url: Annotated[
        str,
        matching(
            r"(https|s3)://[^\s/]+/\S+\.(deb|tar\.gz)",
            "an https:// or s3:// address of a .deb or .tar.gz file",
        ),
    ]
    sha256: Annotated[
        str, matching(r"[0-9a-f]{64}", "the 64 hexadecimal digits that sha256sum prints")
    ]


class EksCluster(SettingsSection):
    """Settings of an EKS cluster that the platform creates for HyperPod.

    The Helm chart of HyperPod must be installed before nodes can join, so the cluster is deployed
    twice: first without `chart_installed`, and with it once the chart is installed.
    """

    version: Annotated[
        str, matching(r"1\.[0-9]{2}", 'a version of Kubernetes in quotes, like "1.34"')
    ] = "1.35"
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
            matching(
                r"arn:aws[a-z-]*:eks:[a-z0-9-]+:[0-9]{12}:cluster/.+",
                "the ARN of an EKS cluster, like arn:aws:eks:REGION:ACCOUNT:cluster/NAME",
            ),
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
        "training_plan, training_plan_zone, zone, volume_gib, encrypt_root_volume, "
        "deep_health_checks, image_id, "
        "auto_patch, update_schedule, autoscale}`; `autoscale: {max_count, idle_minutes}`",
    )
    software: Literal["container", "environment"] = Field(
        "container",
        description="what runs jobs on Slurm: container: the platform's image, by Enroot and "
        "Pyxis; environment: a Python environment on Lustre",
    )
    container_packages: tuple[ContainerPackage, ...] = Field(
        (),
        description="packages of Enroot and Pyxis to install on Slurm nodes whose AMI lacks them: "
        "`{url, sha256}`",
    )
    users: dict[UserName, Annotated[int, Field(ge=1001, lt=59000)]] = Field(
        default_factory=dict,
        description="users on the nodes of a Slurm cluster, with their number; none: everyone is "
        "`ubuntu`",
    )
    node_recovery: bool = Field(True, description="replace failed nodes automatically")
    quotas: dict[InstanceType, Annotated[int, Field(ge=0)]] = Field(
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

    @property
    def on_slurm(self) -> bool:
        """True if there is a cluster, and Slurm orchestrates it."""
        return self.enabled and self.orchestrator == "slurm"
