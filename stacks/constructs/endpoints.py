"""VPC endpoints of the services that the enabled features call, restricted to this account."""

from collections.abc import Mapping, Sequence

from aws_cdk import Aws
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.settings import Environment
from stacks.settings.endpoint_services import required_services
from stacks.settings.placement import endpoint_zones

BUCKETS = ("data", "runs", "models")
# Actions with the prefix of another service that an endpoint authorizes as well: MLflow apps admit
# a caller by an action of SageMaker.
# docs.aws.amazon.com/sagemaker/latest/dg/mlflow-app-setup-prerequisites-iam.html
ACTIONS_OF_OTHER_SERVICES = {"experiments": ("sagemaker:CallMlflowAppApi",)}


class VpcEndpoints(Construct):
    """S3 gateway endpoint, and the interface endpoints that the environment needs."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        vpc: ec2.IVpc,
        subnets: Mapping[str, ec2.ISubnet],
        environment: Environment,
        names: ResourceNames,
    ) -> None:
        super().__init__(scope, id)
        self._names = names
        self._lifecycle_scripts = environment.hyperpod.on_slurm
        existing = environment.network.existing
        if existing is None or not existing.has_endpoint("s3"):
            gateway = vpc.add_gateway_endpoint(
                "S3",
                service=ec2.GatewayVpcEndpointAwsService.S3,
                # In our own VPC these are all subnets but those of NAT gateways, which need none.
                subnets=[ec2.SubnetSelection(subnets=[*subnets.values()])] if existing else None,
            )
            for statement in self._s3_statements():
                gateway.add_to_policy(statement)
        services = required_services(environment)
        if existing:
            services = {
                service: prefix
                for service, prefix in services.items()
                if not existing.has_endpoint(service)
            }
        if not services:
            return
        group = ec2.SecurityGroup(
            self,
            "Group",
            vpc=vpc,
            description="Interface endpoints: HTTPS from within the VPC",
            allow_all_outbound=False,
        )
        for cidr in environment.network.vpc_cidrs:
            group.add_ingress_rule(
                ec2.Peer.ipv4(str(cidr)), ec2.Port.tcp(443), "HTTPS from the VPC"
            )
        for service, prefix in sorted(services.items()):
            endpoint = ec2.InterfaceVpcEndpoint(
                self,
                service.title().replace(".", "").replace("-", ""),
                vpc=vpc,
                service=_service(service, names.region),
                subnets=ec2.SubnetSelection(
                    subnets=[subnets[name] for name in endpoint_zones(environment, service)]
                ),
                security_groups=[group],
                private_dns_enabled=True,
                open=False,
            )
            actions = [f"{prefix}:*", *ACTIONS_OF_OTHER_SERVICES.get(service, ())]
            endpoint.add_to_policy(self._account_only(actions))

    def _account_only(self, actions: Sequence[str]) -> iam.PolicyStatement:
        """Return a statement that allows actions to identities of this account."""
        return iam.PolicyStatement(
            principals=[iam.AnyPrincipal()],
            actions=list(actions),
            resources=["*"],
            conditions={"StringEquals": {"aws:PrincipalAccount": self._names.account}},
        )

    def _s3_statements(self) -> list[iam.PolicyStatement]:
        buckets = [self._names.bucket_arn(kind) for kind in BUCKETS]
        if self._lifecycle_scripts:
            buckets.append(f"arn:{Aws.PARTITION}:s3:::{self._names.lifecycle_bucket}")
        # ECR stores layers in a bucket of AWS, which nodes read through the gateway endpoint.
        layers = f"arn:aws:s3:::prod-{self._names.region}-starport-layer-bucket/*"
        return [
            iam.PolicyStatement(
                principals=[iam.AnyPrincipal()],
                actions=[
                    "s3:AbortMultipartUpload",
                    "s3:DeleteObject",
                    "s3:GetBucketLocation",
                    "s3:GetObject",
                    "s3:GetObjectVersion",
                    "s3:ListBucket",
                    "s3:ListMultipartUploadParts",
                    "s3:PutObject",
                ],
                resources=[*buckets, *(f"{arn}/*" for arn in buckets)],
                conditions={"StringEquals": {"aws:PrincipalAccount": self._names.account}},
            ),
            iam.PolicyStatement(
                principals=[iam.AnyPrincipal()], actions=["s3:GetObject"], resources=[layers]
            ),
        ]


def _service(name: str, region: str) -> ec2.IInterfaceVpcEndpointService:
    if name == "experiments":
        # The only service name with another prefix than com.amazonaws.
        return ec2.InterfaceVpcEndpointService(f"aws.sagemaker.{region}.experiments", 443)
    return ec2.InterfaceVpcEndpointService(f"com.amazonaws.{region}.{name}", 443)
