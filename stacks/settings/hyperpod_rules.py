"""Rules of AWS for HyperPod clusters that span several settings.

The table in `aws_rules` names the source of each.
"""

import re
from collections.abc import Iterator

from stacks.settings.base import duplicates
from stacks.settings.environment import Environment
from stacks.settings.schedules import schedule_problem

PARTITION = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
TEAM_OR_PRIORITY = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
AMI_USERS = ("root", "ubuntu", "slurm", "munge", "ec2-user", "ssm-user")
MAXIMUM_NAME = 40
MAXIMUM_PRIORITIES = 10


def isolated_cluster(environment: Environment) -> Iterator[str]:
    """Yield a problem if nodes in an isolated network have no endpoints of AWS services."""
    network = environment.network
    if (
        environment.hyperpod.enabled
        and network.mode == "isolated"
        and network.endpoints == "gateway-only"
    ):
        yield (
            "network.endpoints: gateway-only, but nodes of HyperPod in an isolated network call "
            "ECR, CloudWatch, Systems Manager and SageMaker; set endpoints: needed, or mode: "
            "private"
        )


def training_plans(environment: Environment) -> Iterator[str]:
    """Yield the training plans of another Region or account."""
    for index, group in enumerate(environment.hyperpod.groups):
        if group.training_plan:
            key = f"hyperpod.groups.{index}.training_plan"
            yield from arn_problems(environment, key, group.training_plan, "a plan")


def eks_cluster(environment: Environment) -> Iterator[str]:
    """Yield a problem if the EKS cluster is in another Region or account."""
    arn = environment.hyperpod.eks_cluster_arn
    if arn:
        yield from arn_problems(environment, "hyperpod.eks_cluster_arn", arn, "an EKS cluster")


def arn_problems(environment: Environment, key: str, arn: str, what: str) -> Iterator[str]:
    """Yield a problem if an ARN is of another Region or account.

    Args:
        environment: The environment.
        key: Path of the setting.
        arn: The ARN.
        what: Kind of resource, with its article.
    """
    region, account = arn.split(":")[3:5]
    if region != environment.region:
        yield (
            f"{key}: {arn} is in {region}, and the environment in {environment.region}; "
            f"name {what} of {environment.region}"
        )
    if environment.account and account != environment.account:
        yield (
            f"{key}: {arn} belongs to account {account}, and the environment to "
            f"{environment.account}; name {what} of that account"
        )


def group_names(environment: Environment) -> Iterator[str]:
    """Yield the names that several groups have."""
    yield from duplicates("hyperpod.groups", [g.name for g in environment.hyperpod.groups])


def partitions(environment: Environment) -> Iterator[str]:
    """Yield invalid Slurm partitions, and partitions without effect."""
    slurm = environment.hyperpod.orchestrator == "slurm"
    for index, group in enumerate(environment.hyperpod.groups):
        key = f"hyperpod.groups.{index}.partition"
        if group.partition is None:
            continue
        if not slurm or group.role != "compute":
            yield (
                f"{key}: {group.partition!r} has no effect, because only compute groups of a "
                "Slurm cluster are in a partition; remove it"
            )
        elif not PARTITION.fullmatch(group.partition):
            yield (
                f"{key}: {group.partition!r} may have letters, digits and inner hyphens only; "
                f"write {_slug(group.partition)!r}"
            )


def roles_on_eks(environment: Environment) -> Iterator[str]:
    """Yield the roles of Slurm nodes in a cluster on EKS."""
    if environment.hyperpod.orchestrator == "eks":
        for index, group in enumerate(environment.hyperpod.groups):
            if group.role != "compute":
                yield (
                    f"hyperpod.groups.{index}.role: {group.role!r} is a role of Slurm nodes and "
                    "has no effect on EKS; remove it"
                )


def only_on_slurm(environment: Environment) -> Iterator[str]:
    """Yield the settings of Slurm nodes that have no effect on EKS, or with an environment."""
    settings = environment.hyperpod
    if settings.orchestrator == "eks":
        for key in sorted({"software", "container_packages", "users"} & settings.model_fields_set):
            yield f"hyperpod.{key}: it has no effect on EKS; remove it, or set orchestrator: slurm"
    elif settings.container_packages and settings.software == "environment":
        yield (
            "hyperpod.container_packages: they have no effect with software: environment; remove "
            "them, or set software: container"
        )


def users(environment: Environment) -> Iterator[str]:
    """Yield numbers that two users share, and names that HyperPod's AMI has."""
    names: dict[int, str] = {}
    for name, uid in environment.hyperpod.users.items():
        if name in AMI_USERS:
            yield f"hyperpod.users: {name!r} is a user of the AMI; name people, or leave it out"
        if uid in names:
            yield (
                f"hyperpod.users.{name}: {uid} is the number of {names[uid]}; each user needs "
                "their own, or one could write the files of the other"
            )
        names[uid] = name


def patching(environment: Environment) -> Iterator[str]:
    """Yield invalid schedules, and groups that are patched in two ways."""
    for index, group in enumerate(environment.hyperpod.groups):
        key = f"hyperpod.groups.{index}.update_schedule"
        if group.update_schedule is None:
            continue
        if not group.update_schedule.startswith("cron("):
            yield (
                f"{key}: {group.update_schedule!r} is no cron expression; write cron(0 3 ? * SUN *)"
            )
        elif problem := schedule_problem(group.update_schedule):
            yield f"{key}: {group.update_schedule!r}: {problem}"
        if group.auto_patch:
            yield (
                f"{key}: group {group.name!r} has auto_patch, too, and updates that overlap may "
                "fail; remove one of the two"
            )


def governance(environment: Environment) -> Iterator[str]:
    """Yield the problems of priority classes and team quotas."""
    governance = environment.hyperpod.task_governance
    if governance is None:
        return
    key = "hyperpod.task_governance"
    if len(governance.priorities) > MAXIMUM_PRIORITIES:
        yield (
            f"{key}.priorities: {len(governance.priorities)} priority classes; "
            f"name at most {MAXIMUM_PRIORITIES}"
        )
    for name, weight in governance.priorities.items():
        yield from _name_problems(f"{key}.priorities", name)
        if not 0 <= weight <= 100:
            yield f"{key}.priorities: {name!r} has weight {weight}; take 0 to 100"
    yield from duplicates(f"{key}.teams", [team.name for team in governance.teams])
    nodes: dict[str, int] = {}
    for group in environment.hyperpod.groups:
        nodes[group.instance] = nodes.get(group.instance, 0) + group.largest_count
    for index, team in enumerate(governance.teams):
        yield from _name_problems(f"{key}.teams.{index}.name", team.name)
        if team.instance not in nodes:
            yield (
                f"{key}.teams.{index}.instance: no group of the cluster has {team.instance}; "
                f"take one of {', '.join(sorted(nodes)) or 'those in hyperpod.groups'}"
            )
    for instance, count in nodes.items():
        shares = sum(team.count for team in governance.teams if team.instance == instance)
        if shares > count:
            yield (
                f"{key}.teams: the teams share {shares} × {instance}, and the cluster has {count}; "
                "lower their counts, or raise that of a group"
            )


def _name_problems(key: str, name: str) -> Iterator[str]:
    if len(name) > MAXIMUM_NAME or not TEAM_OR_PRIORITY.fullmatch(name):
        yield (
            f"{key}: {name!r} must have 1 to {MAXIMUM_NAME} lower-case letters, digits and inner "
            f"hyphens; write {_slug(name).lower()[:MAXIMUM_NAME].rstrip('-')!r}"
        )


def _slug(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-") or "name"
