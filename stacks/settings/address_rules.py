"""Rules of AWS for address ranges and availability zones."""

from collections.abc import Iterator
from ipaddress import IPv4Network

from stacks.settings.base import duplicates
from stacks.settings.environment import Environment

# Ranges in which AWS creates no VPC: "this network", loopback, link-local, multicast, reserved.
UNUSABLE = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
DIRECTIONS = {
    "north": "n",
    "south": "s",
    "east": "e",
    "west": "w",
    "central": "c",
    "northeast": "ne",
    "northwest": "nw",
    "southeast": "se",
    "southwest": "sw",
}


def vpc_size(environment: Environment) -> Iterator[str]:
    """Yield a problem if no VPC can have the range."""
    network = environment.network
    if network.existing is not None:
        return
    if not 16 <= network.cidr.prefixlen <= 28:
        yield (
            "network.cidr: a VPC has a prefix length between /16 and /28, not "
            f"/{network.cidr.prefixlen}; take {network.cidr.network_address}/16"
        )
    for unusable in UNUSABLE:
        if network.cidr.overlaps(IPv4Network(unusable)):
            yield (
                f"network.cidr: {network.cidr} overlaps {unusable}, which is reserved; take a "
                "private range such as 10.40.0.0/16"
            )


def zone_ids(environment: Environment) -> Iterator[str]:
    """Yield zone ids of another Region, and ids that two zones have."""
    prefix = zone_id_prefix(environment.region)
    ids = [zone.id for zone in environment.network.zones if zone.id]
    for zone in environment.network.zones:
        if zone.id and prefix and zone.id.partition("-")[0] != prefix:
            yield (
                f"network.zones: {zone.name} has the id {zone.id!r}, and ids of "
                f"{environment.region} begin with {prefix}-; "
                "`aws ec2 describe-availability-zones` prints them"
            )
    yield from duplicates("network.zones", ids)


def zone_id_prefix(region: str) -> str | None:
    """Return what the ids of a Region's zones begin with (`use1`), or None if it is not known."""
    area, *middle, number = region.split("-")
    if not middle or not number.isdecimal() or any(part not in DIRECTIONS for part in middle):
        return None
    return area + "".join(DIRECTIONS[part] for part in middle) + number
