"""Zones of everything that must be near the nodes: instance groups, Lustre and VPC endpoints.

A training plan fixes the zone of its group; a group's `zone` comes next. The file system follows
the accelerators, and endpoints are created wherever nodes run.
"""

from collections.abc import Iterator

from stacks.aws_data.tables import instances
from stacks.settings.environment import Environment
from stacks.settings.hyperpod import InstanceGroup


def cluster_zones(environment: Environment) -> tuple[str, ...]:
    """Return the zones of the cluster as a whole, which AWS fixes when it is created."""
    return environment.hyperpod.zones or tuple(zone.name for zone in environment.network.zones)


def pinned_zone(group: InstanceGroup) -> str | None:
    """Return the one zone that a group is bound to, if any."""
    return group.training_plan_zone or group.zone


def group_zones(environment: Environment, group: InstanceGroup) -> tuple[str, ...]:
    """Return the zones in which nodes of a group may run.

    Without a plan or a zone these are the zones of the cluster that offer the instance type, as far
    as the table knows; HyperPod chooses among them.
    """
    pinned = pinned_zone(group)
    if pinned:
        return (pinned,)
    zones = cluster_zones(environment)
    facts = instances().get(group.instance.removeprefix("ml."))
    ids = {zone.name: zone.id for zone in environment.network.zones}
    offering = tuple(name for name in zones if facts and ids.get(name) in facts.zones)
    return offering or zones


def node_zones(environment: Environment) -> tuple[str, ...]:
    """Return the zones in which nodes may run, in the order of the environment file."""
    if not environment.hyperpod.enabled:
        return ()
    used = {
        name for group in environment.hyperpod.groups for name in group_zones(environment, group)
    }
    return tuple(zone.name for zone in environment.network.zones if zone.name in used)


def lustre_zone(environment: Environment) -> str:
    """Return the zone of the file system: `storage.lustre.zone`, or that of the accelerators.

    Groups are ranked by their training plan, a zone of their own, and their number of accelerators.
    """
    if environment.storage.lustre.zone:
        return environment.storage.lustre.zone
    groups = environment.hyperpod.groups
    if not groups:
        return cluster_zones(environment)[0]
    chosen = max(groups, key=_closeness_to_data)
    return group_zones(environment, chosen)[0]


def endpoint_zones(environment: Environment, service: str) -> tuple[str, ...]:
    """Return the zones of one interface endpoint.

    Args:
        environment: The environment.
        service: Last part of the service's name, such as `sagemaker.api`.
    """
    network = environment.network
    names = tuple(zone.name for zone in network.zones)
    wanted = names if network.endpoint_zones == "all" else network.endpoint_zones
    if wanted == "nodes":
        wanted = node_zones(environment) or names[:1]
    lacking = network.endpoint_zones_lacking.get(service, ())
    near = tuple(name for name in wanted if name not in lacking)
    return near or tuple(name for name in names if name not in lacking)[:1]


def placement_warnings(environment: Environment) -> Iterator[str]:
    """Yield the groups whose nodes may read Lustre from another zone."""
    if not environment.hyperpod.enabled:
        return
    lustre = lustre_zone(environment)
    for group in environment.hyperpod.groups:
        elsewhere = [name for name in group_zones(environment, group) if name != lustre]
        if _accelerators(group) and elsewhere:
            yield (
                f"hyperpod.groups: nodes of {group.name!r} may run in {', '.join(elsewhere)} and "
                f"Lustre is in {lustre}: reads cross zones, which costs time and traffic; set the "
                f"group's `zone: {lustre}`, or storage.lustre.zone"
            )


def _accelerators(group: InstanceGroup) -> int:
    facts = instances().get(group.instance.removeprefix("ml."))
    return group.largest_count * facts.devices if facts else 0


def _closeness_to_data(group: InstanceGroup) -> tuple[bool, bool, bool, int]:
    accelerators = _accelerators(group)
    return (
        bool(accelerators),
        group.training_plan_zone is not None,
        group.zone is not None,
        accelerators,
    )
