"""Settings of the network: address range, zones and access to the internet."""

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from stacks.settings.base import LogDays, SettingsSection, matching

HEX = "([0-9a-f]{8}|[0-9a-f]{17})"

ZoneName = Annotated[
    str, matching(r"[a-z]{2}(-[a-z]+)+-[0-9][a-z]", "the name of an availability zone, us-east-1a")
]
ZoneId = Annotated[
    str, matching(r"[a-z]{3,4}[0-9]-az[0-9]+", "the id of an availability zone, like use1-az4")
]
VpcId = Annotated[str, matching(rf"vpc-{HEX}", "the id of a VPC, like vpc-0a1b2c3d4e5f60718")]
SubnetId = Annotated[
    str, matching(rf"subnet-{HEX}", "the id of a subnet, like subnet-0a1b2c3d4e5f60718")
]
RouteTableId = Annotated[
    str, matching(rf"rtb-{HEX}", "the id of a route table, like rtb-0a1b2c3d4e5f60718")
]


def _range(value: Any) -> Any:
    """Return a range as it is, or say how to write it.

    `IPv4Network` would take a number, or an address without a length, as one address.

    Raises:
        ValueError: The value is no range.
    """
    try:
        if "/" not in str(value):
            raise ValueError("without a length")
        return IPv4Network(value, strict=True)
    except ValueError:
        pass
    try:
        network = IPv4Network(str(value), strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is not an IPv4 range; write one like 10.40.0.0/16") from None
    if "/" not in str(value):
        raise ValueError(f"{value!r} has no length; write a range like 10.40.0.0/16")
    raise ValueError(f"{value!r} is an address inside of a range; write {str(network)!r}")


Cidr = Annotated[IPv4Network, BeforeValidator(_range)]


class Zone(SettingsSection):
    """Availability zone.

    Names differ between accounts, ids do not:
    `aws ec2 describe-availability-zones --query 'AvailabilityZones[].[ZoneName,ZoneId]'`.
    The id is needed to check whether the zone offers an instance type (HyperPod).
    """

    name: ZoneName
    id: ZoneId | None = None


class ExistingSubnet(SettingsSection):
    """Private subnet that exists, one for each zone of `network.zones`."""

    id: SubnetId
    zone: ZoneName
    cidr: Cidr
    route_table: RouteTableId | None = None


class ExistingNetwork(SettingsSection):
    """VPC and subnets that exist. Routes, peering and transit gateways stay those of their owner.

    Everything is written in the file, so that synthesis looks nothing up; `temper doctor` compares
    it with the account.
    """

    vpc_id: VpcId
    cidrs: tuple[Cidr, ...] = Field(min_length=1)
    subnets: tuple[ExistingSubnet, ...] = Field(min_length=1)
    endpoints: Literal["all"] | tuple[str, ...] = ()
    flow_logs: bool = False

    def has_endpoint(self, service: str) -> bool:
        """Return whether the VPC has an endpoint of the service, or resolves one of another VPC."""
        return self.endpoints == "all" or service in self.endpoints


class NetworkSettings(SettingsSection):
    """Settings of the VPC."""

    renamed: ClassVar[Mapping[str, str]] = {
        "endpoints_in_one_zone": "endpoint_zones (nodes for true, all for false)"
    }

    existing: ExistingNetwork | None = Field(
        None,
        description="use a VPC that exists: `{vpc_id, cidrs, subnets: [{id, zone, cidr, "
        "route_table}], endpoints, flow_logs}`, with one private subnet per zone; see "
        "[An existing VPC](existing-resources.md#an-existing-vpc)",
    )
    cidr: Cidr = Field(IPv4Network("10.40.0.0/16"), description="address range of the VPC")
    zones: tuple[Zone, ...] = Field(
        min_length=1,
        max_length=6,
        description="availability zones, each `{name, id}`; add new ones at the end",
    )
    private_mask: int = Field(20, ge=16, le=28, description="prefix length of each private subnet")
    reserved_zones: int | None = Field(
        None,
        ge=1,
        le=6,
        description="zones, used or not, whose private addresses come before the NAT subnets "
        "(mode: private); fixed once deployed. none: as many as fit, at most 6",
    )
    mode: Literal["isolated", "private"] = Field(
        "isolated", description="isolated: no route to the internet; private: outbound through NAT"
    )
    nat_gateways: int = Field(
        1, ge=1, le=6, description="number of NAT gateways, with mode: private"
    )
    endpoints: Literal["needed", "gateway-only"] = Field(
        "needed",
        description="needed: endpoints of the services that enabled features call; gateway-only: "
        "S3 only",
    )
    endpoint_zones: Literal["nodes", "all"] | tuple[ZoneName, ...] = Field(
        "nodes",
        description="zones of the interface endpoints. nodes: where HyperPod nodes run, or the "
        "first zone without HyperPod; all; or a list. Calls from other zones cross zones",
    )
    endpoint_zones_lacking: dict[str, tuple[ZoneName, ...]] = Field(
        default_factory=dict,
        description="zones in which AWS does not offer an endpoint, by service "
        "(`bedrock-runtime: [us-east-1e]`), as `make diff` reports them",
    )
    flow_log_days: LogDays = Field(30, description="retention of flow logs, in days")

    @property
    def vpc_cidrs(self) -> tuple[IPv4Network, ...]:
        """Address ranges of the VPC."""
        return self.existing.cidrs if self.existing else (self.cidr,)
