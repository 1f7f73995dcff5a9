"""Zones in which AWS does not offer an endpoint service: known only to the account."""

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from stacks.transitions.plan import DeploymentPlan


def unsupported_zones(plan: DeploymentPlan, ec2: Any) -> Iterator[str]:
    """Yield the new interface endpoints in zones that do not offer their service.

    Args:
        plan: The plan of the deployment.
        ec2: Client of EC2.
    """
    for template in plan.new.values():
        resources = template.get("Resources", {})
        wanted = {
            each["Properties"]["ServiceName"]: _zones(each["Properties"], resources)
            for each in resources.values()
            if each["Type"] == "AWS::EC2::VPCEndpoint"
            and each["Properties"].get("VpcEndpointType") == "Interface"
        }
        if not wanted:
            continue
        try:
            answer = ec2.describe_vpc_endpoint_services()
        except ClientError:
            return  # without the permission, AWS itself refuses what is not offered
        offered = {
            each["ServiceName"]: set(each["AvailabilityZones"]) for each in answer["ServiceDetails"]
        }
        for service, zones in sorted(wanted.items()):
            missing = sorted(zones - offered.get(service, zones))
            if missing:
                name = _short_name(service)
                yield (
                    f"{service} is not offered in {', '.join(missing)}; write "
                    f"`network.endpoint_zones_lacking: {{{name}: [{', '.join(missing)}]}}`"
                )


def _zones(properties: dict[str, Any], resources: dict[str, Any]) -> set[str]:
    """Return the zones of an endpoint's subnets, as far as the template defines them."""
    subnets = [each["Ref"] for each in properties.get("SubnetIds", []) if "Ref" in each]
    return {
        resources[subnet]["Properties"]["AvailabilityZone"]
        for subnet in subnets
        if subnet in resources and "AvailabilityZone" in resources[subnet]["Properties"]
    }


def _short_name(service: str) -> str:
    """Return the name of a service as the settings have it: `sagemaker.api`."""
    return ".".join(service.split(".")[3:])
