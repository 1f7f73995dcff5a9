"""Checks of zones: the cluster's, its groups', the file system's and the endpoints'."""

from collections.abc import Iterator

from stacks.aws_data.tables import instances
from stacks.settings.environment import Environment
from stacks.settings.placement import cluster_zones, endpoint_zones, group_zones, lustre_zone

EFA_SOURCE = "docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa.html"
EKS_SOURCE = "docs.aws.amazon.com/eks/latest/userguide/network-reqs.html"


def placement_problems(environment: Environment) -> Iterator[str]:
    """Yield the zones that the network lacks, and settings that contradict each other."""
    yield from _unknown_zones(environment)
    yield from _endpoint_problems(environment)
    if environment.hyperpod.enabled:
        yield from _cluster_problems(environment)


def _unknown_zones(environment: Environment) -> Iterator[str]:
    names = [zone.name for zone in environment.network.zones]
    named = [("hyperpod.zones", name) for name in environment.hyperpod.zones]
    named += [
        (f"hyperpod.groups.{index}.zone", group.zone)
        for index, group in enumerate(environment.hyperpod.groups)
        if group.zone
    ]
    if environment.storage.lustre.zone:
        named.append(("storage.lustre.zone", environment.storage.lustre.zone))
    if isinstance(environment.network.endpoint_zones, tuple):
        named += [("network.endpoint_zones", name) for name in environment.network.endpoint_zones]
        if not environment.network.endpoint_zones:
            yield "network.endpoint_zones: the list is empty; name a zone, or write nodes or all"
    for key, name in named:
        if name not in names:
            yield (
                f"{key}: {name!r} is not among network.zones, which has {', '.join(names)}; "
                "add it there, or name one of these"
            )


def _endpoint_problems(environment: Environment) -> Iterator[str]:
    for service, zones in environment.network.endpoint_zones_lacking.items():
        if not endpoint_zones(environment, service):
            yield (
                f"network.endpoint_zones_lacking.{service}: no zone of network.zones is left "
                f"({', '.join(zones)}); add a zone that offers the service"
            )


def _cluster_problems(environment: Environment) -> Iterator[str]:
    hyperpod = environment.hyperpod
    if hyperpod.eks and len(cluster_zones(environment)) < 2:
        yield (
            f"hyperpod.zones: an EKS cluster needs two zones, not "
            f"{len(cluster_zones(environment))}; name another ({EKS_SOURCE})"
        )
    if not environment.storage.lustre.efa:
        return
    lustre = lustre_zone(environment)
    for group in hyperpod.groups:
        facts = instances().get(group.instance.removeprefix("ml."))
        zones = group_zones(environment, group)
        if facts and facts.efa and lustre not in zones:
            yield (
                f"storage.lustre.efa: EFA traffic does not leave a zone, and nodes of "
                f"{group.name!r} run in {', '.join(zones)}, Lustre in {lustre}; set "
                f"storage.lustre.zone, move the group, or set efa: false ({EFA_SOURCE})"
            )
