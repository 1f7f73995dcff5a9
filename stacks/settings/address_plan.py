"""Address plan of the VPC: where each zone's subnets lie, whatever the number of zones.

The range is divided into blocks of the size of a private subnet. Zone number i of the environment
file owns block i. With NAT, its subnets lie after the blocks of the reserved zones, used or not,
and zones beyond these come after the NAT subnets. So a zone can be added to a live environment
without moving a subnet, which CloudFormation cannot do: a subnet's range is fixed at creation.
"""

from ipaddress import IPv4Network

from stacks.settings.network import NetworkSettings

NAT_PREFIX_LENGTH = 27
MAXIMUM_ZONES = 6


def private_subnet(network: NetworkSettings, index: int) -> IPv4Network:
    """Return the address range of the private subnet of a zone."""
    reserved = reserved_zones(network)
    first = index * _block(network)
    if network.mode == "private" and index >= reserved:
        first = _after_nat(network) + (index - reserved) * _block(network)
    return _subnet(network, first, network.private_mask)


def nat_subnet(network: NetworkSettings, index: int) -> IPv4Network:
    """Return the address range of the NAT subnet of a zone."""
    first = _start_of_nat(network, reserved_zones(network)) + index * _nat_block()
    return _subnet(network, first, NAT_PREFIX_LENGTH)


def reserved_zones(network: NetworkSettings) -> int:
    """Return the number of zones whose private subnets come before the NAT subnets."""
    if network.reserved_zones is not None:
        return network.reserved_zones
    per_zone = _block(network) + (_nat_block() if network.mode == "private" else 0)
    return max(1, min(MAXIMUM_ZONES, network.cidr.num_addresses // per_zone))


def addresses_needed(network: NetworkSettings) -> int:
    """Return the smallest number of addresses, from the start of the range, that the plan needs."""
    zones = len(network.zones)
    if network.mode == "isolated":
        return zones * _block(network)
    reserved = network.reserved_zones or zones
    if zones > reserved:
        return _after_nat(network) + (zones - reserved) * _block(network)
    return _start_of_nat(network, reserved) + zones * _nat_block()


def _after_nat(network: NetworkSettings) -> int:
    """Return the first block after the NAT subnets of all zones that a VPC may have."""
    block = _block(network)
    end = _start_of_nat(network, reserved_zones(network)) + MAXIMUM_ZONES * _nat_block()
    return -(-end // block) * block


def _start_of_nat(network: NetworkSettings, reserved: int) -> int:
    return -(-reserved * _block(network) // _nat_block()) * _nat_block()


def _block(network: NetworkSettings) -> int:
    return 1 << (32 - network.private_mask)


def _nat_block() -> int:
    return 1 << (32 - NAT_PREFIX_LENGTH)


def _subnet(network: NetworkSettings, first: int, prefix_length: int) -> IPv4Network:
    return IPv4Network((int(network.cidr.network_address) + first, prefix_length))
