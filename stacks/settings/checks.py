"""Checks that span several sections, and checks that span several environments."""

from collections.abc import Iterator, Mapping

from stacks.aws_data.tables import instances, regions
from stacks.settings.address_plan import addresses_needed
from stacks.settings.aws_rules import rule_problems
from stacks.settings.environment import Environment
from stacks.settings.hyperpod import InstanceGroup
from stacks.settings.network import NetworkSettings
from stacks.settings.network_rules import shared_vpc
from stacks.settings.placement import cluster_zones, pinned_zone
from stacks.settings.placement_checks import placement_problems
from stacks.settings.table_checks import table_problems

RESERVED_ADDRESSES_PER_SUBNET = 5


def cross_section_problems(environment: Environment) -> Iterator[str]:
    """Yield the problems of an environment whose sections are valid by themselves."""
    yield from _zone_problems(environment)
    yield from _address_problems(environment)
    yield from placement_problems(environment)
    if environment.hyperpod.enabled:
        yield from _hyperpod_problems(environment)
    yield from _throughput_problems(environment)
    yield from _approval_problems(environment)
    yield from _model_approval_problems(environment)
    yield from rule_problems(environment)
    yield from table_problems(environment)


def neighbour_problems(
    environment: Environment, neighbours: Mapping[str, Environment]
) -> Iterator[str]:
    """Yield the conflicts with other environments of the same account.

    Args:
        environment: The environment to check.
        neighbours: The other environments, by file name.
    """
    same = {
        file: other
        for file, other in neighbours.items()
        if not (environment.account and other.account and environment.account != other.account)
    }
    if clashes := [file for file, other in same.items() if other.prefix == environment.prefix]:
        yield (
            f"prefix: {environment.prefix!r} is also the prefix of {', '.join(clashes)}; names of "
            "buckets and parameters would collide, so give each environment its own"
        )
    for file, other in same.items():
        for short, long in (
            (environment.prefix, other.prefix),
            (other.prefix, environment.prefix),
        ):
            if long.startswith(f"{short}-"):
                yield (
                    f"prefix: {long!r} begins with {short!r}, the prefix of another environment "
                    f"({file} is involved), whose roles could then touch its jobs and parameters; "
                    "choose prefixes of which none begins with another and a hyphen"
                )
        if (
            environment.training.own_log_group
            and other.training.own_log_group
            and environment.account
            and (environment.account, environment.region) == (other.account, other.region)
        ):
            yield (
                f"training.own_log_group: {file} owns /aws/sagemaker/TrainingJobs of this account "
                "and Region already; set it to false in one of the two"
            )
        yield from shared_vpc(environment, file, other)


def _zone_problems(environment: Environment) -> Iterator[str]:
    names = [zone.name for zone in environment.network.zones]
    for name in names:
        known = environment.region in regions() or "regions" in environment.overrides
        if known and name[:-1] != environment.region:
            yield f"network.zones: {name!r} is not a zone of {environment.region}"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"network.zones: {name!r} is listed twice"
    if environment.network.mode == "private" and environment.network.nat_gateways > len(names):
        yield (
            f"network.nat_gateways: {environment.network.nat_gateways} for {len(names)} zones; "
            "at most one per zone"
        )


def _address_problems(environment: Environment) -> Iterator[str]:
    network = environment.network
    if network.existing is None:
        yield from _vpc_is_large_enough(network)
    if not environment.hyperpod.enabled:
        return
    mask, key = network.private_mask, "network.private_mask"
    if network.existing:
        mask, key = max(s.cidr.prefixlen for s in network.existing.subnets), "network.existing"
    usable = 2 ** (32 - mask) - RESERVED_ADDRESSES_PER_SUBNET
    wanted = sum(
        group.largest_count * _addresses_per_node(group) for group in environment.hyperpod.groups
    )
    if wanted > usable:
        longest = 32 - (wanted + RESERVED_ADDRESSES_PER_SUBNET - 1).bit_length()
        yield (
            f"{key}: a /{mask} subnet has {usable} usable addresses "
            f"and the HyperPod groups need {wanted} (one per network card, at least 5 per node "
            f"with EFA); take {longest} or shorter"
        )


def _vpc_is_large_enough(network: NetworkSettings) -> Iterator[str]:
    needed = addresses_needed(network)
    if needed > network.cidr.num_addresses:
        smallest = 32 - (needed - 1).bit_length()
        yield (
            f"network.cidr: {network.cidr} has {network.cidr.num_addresses} addresses and "
            f"{len(network.zones)} zones of /{network.private_mask} need {needed}; "
            f"take a /{smallest} or larger, or a longer private_mask"
        )


def _addresses_per_node(group: InstanceGroup) -> int:
    facts = instances().get(group.instance.removeprefix("ml."))
    return max(5, facts.efa) if facts and facts.efa else 2


def _hyperpod_problems(environment: Environment) -> Iterator[str]:
    hyperpod = environment.hyperpod
    if not hyperpod.groups:
        yield "hyperpod.groups: HyperPod is enabled and has no group; name at least one"
    yield from _orchestrator_problems(environment)
    if hyperpod.orchestrator == "slurm":
        controllers = sum(g.count for g in hyperpod.groups if g.role == "controller")
        if hyperpod.groups and controllers != 1:
            yield (
                f"hyperpod.groups: a Slurm cluster has exactly one controller node, not "
                f"{controllers}; give one group role: controller and count: 1"
            )
        if hyperpod.task_governance:
            yield (
                "hyperpod.task_governance: it requires orchestrator eks; "
                "remove it, and use partitions with Slurm"
            )
    for index, group in enumerate(hyperpod.groups):
        yield from _group_problems(environment, group, f"hyperpod.groups.{index}")
    yield from _quota_problems(environment)


def _orchestrator_problems(environment: Environment) -> Iterator[str]:
    hyperpod, zones = environment.hyperpod, environment.network.zones
    if hyperpod.orchestrator == "eks" and not (hyperpod.eks_cluster_arn or hyperpod.eks):
        yield (
            "hyperpod.eks_cluster_arn: orchestrator eks needs an EKS cluster; give the ARN of "
            "an existing one, or set `eks: {administrators: [role ARN]}` to create one"
        )
    if hyperpod.eks_cluster_arn and hyperpod.eks:
        yield "hyperpod.eks: eks_cluster_arn names a cluster already; remove one of the two"
    if hyperpod.orchestrator == "slurm" and (hyperpod.eks or hyperpod.eks_cluster_arn):
        yield "hyperpod.eks: an EKS cluster requires orchestrator eks; remove it, or set eks"
    if hyperpod.orchestrator == "eks" and hyperpod.accounting:
        yield "hyperpod.accounting: it requires orchestrator slurm; remove it, or set slurm"
    if hyperpod.accounting and not environment.protect:
        yield (
            "hyperpod.accounting: protect: false would delete the accounting records with "
            "the stack; set protect: true, or remove accounting"
        )
    for key, wanted in (("eks", hyperpod.eks), ("accounting", hyperpod.accounting)):
        if wanted and len(zones) < 2:
            yield f"hyperpod.{key}: it needs two zones, and network.zones has {len(zones)}"


def _group_problems(environment: Environment, group: InstanceGroup, key_path: str) -> Iterator[str]:
    names = [zone.name for zone in environment.network.zones]
    if group.training_plan_zone and group.training_plan_zone not in names:
        yield (
            f"{key_path}.training_plan_zone: {group.name!r} has a plan in "
            f"{group.training_plan_zone!r}, and network.zones has {', '.join(names)}; "
            "add that zone, or buy the plan in one of these"
        )
    facts = instances().get(group.instance.removeprefix("ml."))
    if facts is None:
        return
    ids = {zone.name: zone.id for zone in environment.network.zones}
    pinned = pinned_zone(group)
    zones_to_check = [pinned] if pinned in names else list(cluster_zones(environment))
    for name in zones_to_check:
        if name in ids and ids[name] is None:
            yield (
                f"network.zones: {name} has no id, and {group.name!r} needs {group.instance} "
                "there; `aws ec2 describe-availability-zones` prints it (use1-az4, …)"
            )


def _quota_problems(environment: Environment) -> Iterator[str]:
    hyperpod = environment.hyperpod
    for instance in sorted({group.instance for group in hyperpod.groups}):
        needed = sum(group.largest_count for group in hyperpod.groups if group.instance == instance)
        granted = hyperpod.quotas.get(instance, 0)
        if needed > granted:
            yield (
                f"hyperpod.quotas: {needed} × {instance} are needed and {granted} granted; "
                f"request {instance!r} 'for cluster usage' = {needed} in Service Quotas "
                f"(SageMaker), then write `{instance}: {needed}` under quotas"
            )


def _throughput_problems(environment: Environment) -> Iterator[str]:
    for index, throughput in enumerate(environment.bedrock.throughput):
        if throughput.commitment and not throughput.acknowledge_commitment:
            yield (
                f"bedrock.throughput.{index}: {throughput.name!r} commits to "
                f"{throughput.commitment}, which is billed to its end and cannot be deleted "
                "earlier; set acknowledge_commitment: true, or remove commitment"
            )
    if environment.bedrock.throughput and not environment.bedrock.enabled:
        yield (
            "bedrock.throughput: listed, but bedrock.enabled is false; "
            "enable Bedrock, or remove the list"
        )


def _approval_problems(environment: Environment) -> Iterator[str]:
    if environment.images.approval == "none":
        return
    if not environment.images.build:
        yield (
            "images.approval: required, and images.build is false; only CodeBuild records who "
            "built an image, so set images.build: true, or images.approval: none"
        )
    security = environment.security
    for arn in sorted(set(security.engineers) & set(security.image_approvers)):
        yield (
            f"security.image_approvers: {arn} is also one of security.engineers, who build "
            "images; builders may not approve their own images, so name other roles"
        )


def _model_approval_problems(environment: Environment) -> Iterator[str]:
    if environment.training.model_approval == "none":
        return
    security = environment.security
    for arn in sorted(set(security.engineers) & set(security.model_approvers)):
        yield (
            f"security.model_approvers: {arn} is also one of security.engineers, who register "
            "models; they may not approve their own, so name other roles"
        )
