"""Where things run: the address range, the zones, and whether there is a way out."""

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stacks.settings.base import SettingsSection

ZoneName = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$")]
ZoneId = Annotated[str, StringConstraints(pattern=r"^[a-z]{3,4}[0-9]-az[0-9]+$")]


class Zone(SettingsSection):
    """One availability zone.

    Names differ from account to account, ids do not:
    `aws ec2 describe-availability-zones --query 'AvailabilityZones[].[ZoneName,ZoneId]'`.
    The id is needed where instance types are checked against the zone (HyperPod).
    """

    name: ZoneName
    id: ZoneId | None = None


class NetworkSettings(SettingsSection):
    """The VPC and its ways in and out."""

    cidr: IPv4Network = Field(IPv4Network("10.40.0.0/16"), description="the VPC's addresses")
    zones: tuple[Zone, ...] = Field(
        min_length=1, max_length=6, description="availability zones, each `{name, id}`"
    )
    private_mask: int = Field(20, ge=16, le=28, description="prefix length of each private subnet")
    mode: Literal["isolated", "private"] = Field(
        "isolated", description="isolated: no way to the internet at all; private: out through NAT"
    )
    nat_gateways: int = Field(1, ge=1, le=6, description="only with mode: private")
    endpoints: Literal["needed", "gateway-only"] = Field(
        "needed", description="needed: what enabled features call; gateway-only: S3 alone"
    )
    endpoints_in_one_zone: bool = Field(
        True, description="cheaper; calls from other zones cross over"
    )
    flow_log_days: int = Field(30, ge=1, le=3653, description="how long flow logs are kept")
