"""Check of a VPC that exists (`network.existing`) against what the environment file says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from catalog.endpoint_services import endpoint_services
from launch.aws.session import DENIED, AwsSession, error_code, explain_aws_errors
from launch.doctor.checks import CheckFailed, Skipped


class ExistingNetworkCheck:
    """Comparison of the file's VPC, subnets and endpoints with the account's.

    It needs no deployed platform: it is meant to be run before the first deployment.

    Args:
        account: Session of the account.
    """

    def __init__(self, account: AwsSession):
        self.account = account
        network = account.environment.network
        existing = network.get("existing")
        self.existing: Mapping[str, Any] = existing if isinstance(existing, dict) else {}
        self.private = network.get("mode") == "private"

    def run(self) -> str:
        """Return what was compared.

        Raises:
            CheckFailed: The account differs from the file, with every difference.
            Skipped: The platform creates its own VPC, or the credentials may not call EC2.
        """
        if not self.existing:
            raise Skipped("the platform creates its own VPC")
        problems = list(self._problems())
        if problems:
            raise CheckFailed("; ".join(problems), self._fix)
        return f"{self.existing['vpc_id']} with {', '.join(self._subnet_ids)}, as the file says"

    @property
    def _fix(self) -> str:
        return f"correct network.existing in environments/{self.account.environment.name}.yaml"

    @property
    def _subnet_ids(self) -> list[str]:
        return [str(subnet["id"]) for subnet in self.existing["subnets"]]

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer of EC2.

        Raises:
            CheckFailed: A resource that the file names does not exist.
            ClientError: Any other error.
            Skipped: The credentials may not call EC2.
        """
        with explain_aws_errors(f"calling EC2 {operation}"):
            try:
                answer: dict[str, Any] = getattr(self.account.client("ec2"), operation)(**arguments)
            except ClientError as error:
                code = error_code(error)
                if code in DENIED:
                    raise Skipped("these credentials may not call EC2") from None
                if code.endswith((".NotFound", ".Malformed")):
                    message = error.response["Error"].get("Message", code)
                    raise CheckFailed(message, self._fix) from None
                raise
        return answer

    def _problems(self) -> Iterator[str]:
        vpc_id = self.existing["vpc_id"]
        [vpc] = self._call("describe_vpcs", VpcIds=[vpc_id])["Vpcs"]
        yield from self._vpc_problems(vpc)
        subnets = self._call("describe_subnets", SubnetIds=self._subnet_ids)["Subnets"]
        by_id = {subnet["SubnetId"]: subnet for subnet in subnets}
        owner = str(vpc.get("OwnerId", ""))
        for told in self.existing["subnets"]:
            yield from self._subnet_problems(told, by_id[told["id"]], owner)
        yield from self._endpoint_problems()

    def _vpc_problems(self, vpc: Mapping[str, Any]) -> Iterator[str]:
        real = {
            block["CidrBlock"]
            for block in vpc.get("CidrBlockAssociationSet", [])
            if block.get("CidrBlockState", {}).get("State") == "associated"
        } or {vpc["CidrBlock"]}
        for cidr in map(str, self.existing.get("cidrs", ())):
            if cidr not in real:
                yield f"{vpc['VpcId']} has {', '.join(sorted(real))}, not {cidr} (cidrs)"
        # Interface endpoints with private DNS need both attributes of the VPC.
        # docs.aws.amazon.com/vpc/latest/privatelink/create-interface-endpoint.html
        for attribute in ("enableDnsSupport", "enableDnsHostnames"):
            answer = self._call("describe_vpc_attribute", VpcId=vpc["VpcId"], Attribute=attribute)
            if not answer[attribute[0].upper() + attribute[1:]]["Value"]:
                yield f"{attribute} of {vpc['VpcId']} is false, and private DNS needs it"

    def _subnet_problems(
        self, told: Mapping[str, Any], real: Mapping[str, Any], owner: str
    ) -> Iterator[str]:
        name = real["SubnetId"]
        facts = {
            "zone": ("AvailabilityZone", told.get("zone")),
            "cidr": ("CidrBlock", told.get("cidr")),
        }
        for key, (member, value) in facts.items():
            if str(value) != real[member]:
                yield f"{name} has {key} {real[member]}, not {value}"
        if real["VpcId"] != self.existing["vpc_id"]:
            yield f"{name} is in {real['VpcId']}, not in {self.existing['vpc_id']}"
        caller = str(self.account.client("sts").get_caller_identity()["Account"])
        if owner and owner != caller:
            yield (
                f"{name} is shared by account {owner}; policies name subnets of account {caller}, "
                "so use subnets that it owns"
            )
        yield from self._route_problems(told, name)

    def _route_problems(self, told: Mapping[str, Any], subnet: str) -> Iterator[str]:
        tables = self._route_tables("association.subnet-id", subnet) or [
            table
            for table in self._route_tables("vpc-id", self.existing["vpc_id"])
            if any(association.get("Main") for association in table.get("Associations", ()))
        ]
        for table in tables:
            told_table = told.get("route_table")
            if told_table and told_table != table["RouteTableId"]:
                yield f"{subnet} has route table {table['RouteTableId']}, not {told_table}"
            open_routes = [
                route
                for route in table.get("Routes", ())
                if route.get("DestinationCidrBlock") == "0.0.0.0/0"
                and route.get("State", "active") == "active"
            ]
            if any(str(route.get("GatewayId", "")).startswith("igw-") for route in open_routes):
                yield (
                    f"{subnet} is public: {table['RouteTableId']} routes 0.0.0.0/0 to an internet "
                    "gateway, and jobs have no public address; use a private subnet"
                )
            elif self.private and not open_routes:
                yield (
                    f"mode: private, but {table['RouteTableId']} of {subnet} has no route for "
                    "0.0.0.0/0; add one, or set mode: isolated"
                )
            elif not self.private and open_routes:
                yield (
                    f"mode: isolated, but {table['RouteTableId']} of {subnet} routes 0.0.0.0/0; "
                    "remove the route, or set mode: private"
                )

    def _route_tables(self, name: str, value: str) -> Sequence[Mapping[str, Any]]:
        filters = [{"Name": name, "Values": [value]}]
        tables: list[Mapping[str, Any]] = self._call("describe_route_tables", Filters=filters)[
            "RouteTables"
        ]
        return tables

    def _endpoint_problems(self) -> Iterator[str]:
        """Yield endpoints that are missing, and those that ours would collide with.

        A VPC has one private DNS name per service, so a second interface endpoint with private DNS
        is refused; a route table has one gateway endpoint per service.
        """
        vpc_id, told = self.existing["vpc_id"], self.existing.get("endpoints", ())
        if told == "all":
            return  # They may be in another VPC, with DNS that forwards to it.
        filters = [{"Name": "vpc-id", "Values": [vpc_id]}]
        answer = self._call("describe_vpc_endpoints", Filters=filters)
        prefix = f".{self.account.environment.region}."
        real = {
            each["ServiceName"].partition(prefix)[2]
            for each in answer["VpcEndpoints"]
            if each.get("State", "available").lower() == "available"
            and (each.get("VpcEndpointType") == "Gateway" or each.get("PrivateDnsEnabled"))
            and not self._is_ours(each)
        }
        for service in sorted((real & {"s3", *endpoint_services()}) - set(told)):
            yield (
                f"{vpc_id} has an endpoint of {service} already, and ours would collide with it; "
                "list it under endpoints"
            )

    def _is_ours(self, endpoint: Mapping[str, Any]) -> bool:
        tags = {tag["Key"]: tag["Value"] for tag in endpoint.get("Tags", ())}
        name = self.account.environment.name
        return (tags.get("Project"), tags.get("Environment")) == ("temper", name)
