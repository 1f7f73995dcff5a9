"""Rules for a VPC and subnets that exist (`network.existing`)."""

import difflib
from collections.abc import Iterator

from catalog.endpoint_services import endpoint_services
from stacks.settings.base import duplicates
from stacks.settings.endpoint_services import required_services
from stacks.settings.environment import Environment

GATEWAY = "s3"


def existing_network(environment: Environment) -> Iterator[str]:
    """Yield the contradictions of a VPC that exists, and the settings that it makes useless."""
    if environment.network.existing is None:
        return
    yield from _useless_settings(environment)
    yield from _zones(environment)
    yield from _ranges(environment)
    yield from _endpoints(environment)


def _useless_settings(environment: Environment) -> Iterator[str]:
    network = environment.network
    assert network.existing is not None
    where = {
        "cidr": "existing.cidrs",
        "private_mask": "existing.subnets",
        "reserved_zones": "existing.subnets",
        "nat_gateways": "the routes of your subnets",
    }
    for key, instead in where.items():
        if key in network.model_fields_set:
            yield (
                f"network.{key}: has no effect on the VPC {network.existing.vpc_id}, which exists; "
                f"remove it ({instead} decides)"
            )
    if "flow_log_days" in network.model_fields_set and not network.existing.flow_logs:
        yield (
            f"network.flow_log_days: has no effect, because {network.existing.vpc_id} keeps its "
            "own flow logs; remove it, or set existing.flow_logs: true"
        )


def _zones(environment: Environment) -> Iterator[str]:
    network = environment.network
    assert network.existing is not None
    zones = [zone.name for zone in network.zones]
    in_zone: dict[str, list[str]] = {zone: [] for zone in zones}
    for index, subnet in enumerate(network.existing.subnets):
        if subnet.zone in in_zone:
            in_zone[subnet.zone].append(subnet.id)
        else:
            yield (
                f"network.existing.subnets.{index}.zone: {subnet.id} is in {subnet.zone!r}, and "
                f"network.zones has {', '.join(zones)}; add the zone, or remove the subnet"
            )
    for zone, subnets in in_zone.items():
        if len(subnets) != 1:
            given = ", ".join(subnets) or "none"
            yield (
                f"network.existing.subnets: exactly one subnet per zone is used, and {zone} has "
                f"{given}; name one private subnet of that zone"
            )
    yield from duplicates("network.existing.subnets", [s.id for s in network.existing.subnets])


def _ranges(environment: Environment) -> Iterator[str]:
    existing = environment.network.existing
    assert existing is not None
    for index, cidr in enumerate(existing.cidrs):
        if not 16 <= cidr.prefixlen <= 28:
            yield (
                f"network.existing.cidrs.{index}: a VPC has ranges between /16 and /28, not "
                f"{cidr}; `aws ec2 describe-vpcs --vpc-ids {existing.vpc_id}` prints them"
            )
    for index, subnet in enumerate(existing.subnets):
        key = f"network.existing.subnets.{index}.cidr"
        if not any(subnet.cidr.subnet_of(cidr) for cidr in existing.cidrs):
            ranges = ", ".join(map(str, existing.cidrs))
            yield (
                f"{key}: {subnet.cidr} of {subnet.id} is outside of the VPC's {ranges}; correct "
                "it, or add the range of the VPC to existing.cidrs"
            )
        elif subnet.cidr.prefixlen > 28:
            yield f"{key}: a subnet has at most /28, not {subnet.cidr}; correct it"
        for other in existing.subnets[:index]:
            if subnet.cidr.overlaps(other.cidr):
                yield (
                    f"{key}: {subnet.cidr} of {subnet.id} overlaps {other.cidr} of {other.id}, "
                    "which subnets of one VPC cannot; correct one of the two"
                )


def _endpoints(environment: Environment) -> Iterator[str]:
    existing = environment.network.existing
    assert existing is not None
    known = sorted({GATEWAY, *endpoint_services()})
    for index, service in enumerate(existing.endpoints if existing.endpoints != "all" else ()):
        if service not in known:
            close = difflib.get_close_matches(service.rpartition(".")[2], known, n=1, cutoff=0.4)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            yield (
                f"network.existing.endpoints.{index}: the platform calls no service "
                f"{service!r}{hint} Choose from {', '.join(known)}, or write all"
            )
    if existing.has_endpoint(GATEWAY):
        return
    for index, subnet in enumerate(existing.subnets):
        if subnet.route_table is None:
            yield (
                f"network.existing.subnets.{index}.route_table: the S3 gateway endpoint is a route "
                f"of {subnet.id}; write its route table (rtb-…), or list s3 in existing.endpoints "
                "if the VPC has that endpoint"
            )


def shared_vpc(environment: Environment, file: str, other: Environment) -> Iterator[str]:
    """Yield the endpoints that two environments would both create in one VPC that exists.

    Args:
        environment: The environment to check.
        file: Name of the other environment's file.
        other: The other environment.
    """
    ours, theirs = environment.network.existing, other.network.existing
    if ours is None or theirs is None or ours.vpc_id != theirs.vpc_id:
        return
    both = required_services(environment).keys() & required_services(other).keys()
    twice = [s for s in sorted(both) if not (ours.has_endpoint(s) or theirs.has_endpoint(s))]
    if twice:
        yield (
            f"network.existing.endpoints: {file} creates endpoints of {', '.join(twice)} in "
            f"{ours.vpc_id} too, and a VPC has one private DNS name per service; list them here"
        )
