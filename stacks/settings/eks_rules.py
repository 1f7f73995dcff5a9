"""Rules of AWS for HyperPod on EKS: namespaces, access to the API server, autoscaled groups.

The table in `aws_rules` names the source of each.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network

from stacks.settings.environment import Environment
from stacks.settings.hyperpod import InstanceGroup
from stacks.settings.placement import cluster_zones, pinned_zone

MAXIMUM_CIDRS = 40
# Ranges that are never the source of a packet from the internet:
# www.iana.org/assignments/iana-ipv4-special-registry
RESERVED = tuple(
    IPv4Network(cidr)
    for cidr in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
    )
)


def job_namespace(environment: Environment) -> Iterator[str]:
    """Yield a problem if HyperPod would not resume the jobs of the namespace, or no job is in it.

    HyperPod resumes jobs in `kubeflow` and in namespaces whose name begins with `hyperpod`.
    """
    hyperpod = environment.hyperpod
    key, name = "hyperpod.namespace", hyperpod.namespace
    if "namespace" not in hyperpod.model_fields_set:
        return
    if hyperpod.orchestrator != "eks":
        yield f"{key}: {name!r} has no effect with orchestrator slurm; remove it"
    elif hyperpod.task_governance and hyperpod.task_governance.teams:
        yield (
            f"{key}: {name!r} has no effect, because task_governance.teams puts jobs into "
            f"{', '.join(hyperpod.namespaces)}; remove it"
        )
    elif name != "kubeflow" and not name.startswith("hyperpod-ns-"):
        yield (
            f"{key}: HyperPod would not resume jobs in {name!r} after a node fails; write "
            f"kubeflow, or 'hyperpod-ns-{name}'"
        )


def public_access(environment: Environment) -> Iterator[str]:
    """Yield the address ranges that EKS refuses, or that are the whole internet."""
    eks = environment.hyperpod.eks
    if eks is None:
        return
    key = "hyperpod.eks.public_access_cidrs"
    if len(eks.public_access_cidrs) > MAXIMUM_CIDRS:
        yield (
            f"{key}: {len(eks.public_access_cidrs)} ranges, and EKS accepts {MAXIMUM_CIDRS}; "
            "join neighbouring ranges"
        )
    for cidr in eks.public_access_cidrs:
        if cidr.prefixlen == 0:
            yield (
                f"{key}: {cidr} opens the API server to the whole internet; name the addresses "
                "of your offices or VPN, or remove the setting and use `temper connect`"
            )
        elif any(cidr.overlaps(reserved) for reserved in RESERVED):
            yield (
                f"{key}: {cidr} is a private or reserved range, which never reaches a public "
                "endpoint; name the public addresses of your offices or VPN"
            )


def autoscaled_groups(environment: Environment) -> Iterator[str]:
    """Yield what HyperPod's managed Karpenter does not support."""
    hyperpod = environment.hyperpod
    for index, group in enumerate(hyperpod.groups):
        if group.autoscale is None:
            continue
        key = f"hyperpod.groups.{index}"
        if hyperpod.orchestrator != "eks":
            yield f"{key}.autoscale: only clusters on EKS are autoscaled; remove it, or set eks"
            continue
        if not hyperpod.node_recovery:
            yield (
                f"{key}.autoscale: HyperPod autoscales only clusters that replace failed nodes; "
                "set node_recovery: true"
            )
        yield from _unsupported(group, key)
        yield from _zone(environment, group, f"{key}.zone")


def _unsupported(group: InstanceGroup, key: str) -> Iterator[str]:
    if group.count:
        yield (
            f"{key}.count: {group.count} nodes, which Karpenter would remove at once; an "
            "autoscaled group starts with count: 0"
        )
    if group.training_plan:
        yield (
            f"{key}.training_plan: reserved capacity is paid for when idle, and Karpenter does not "
            "support it; remove autoscale, or the plan"
        )
    if group.deep_health_checks and "deep_health_checks" in group.model_fields_set:
        yield (
            f"{key}.deep_health_checks: a check takes an hour or more, in which Karpenter would "
            "add further nodes; set it to false"
        )


def _zone(environment: Environment, group: InstanceGroup, key: str) -> Iterator[str]:
    zones = cluster_zones(environment)
    if pinned_zone(group) is None and len(zones) > 1:
        yield (
            f"{key}: is required, because all nodes of an autoscaled group are in one zone; "
            f"take one of {', '.join(zones)}"
        )


def nodes_of_addons(environment: Environment) -> Iterator[str]:
    """Yield a problem if the add-ons of a new EKS cluster would have no node to run on."""
    hyperpod = environment.hyperpod
    if hyperpod.eks and hyperpod.groups and not any(group.count for group in hyperpod.groups):
        yield (
            "hyperpod.groups: no group has a node of its own, so CoreDNS and the Lustre driver "
            "would never start and the deployment would time out; add a small group, such as "
            "`{name: system, instance: ml.m5.xlarge, count: 2}`"
        )
