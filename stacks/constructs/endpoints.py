"""VPC endpoints of the services that the enabled features call, restricted to this account."""

from collections.abc import Sequence

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.settings import Environment

BUCKETS = ("data", "runs", "models")
# Services that each feature calls from inside the VPC: last part of the endpoint's service name →
# IAM prefix. SageMaker pulls images and copies channels outside the VPC of the job, so a plain
# training job needs the S3 gateway endpoint only.
SERVICES_BY_FEATURE: dict[str, dict[str, str]] = {
    "hyperpod": {
        "ec2": "ec2",  # attaches network interfaces
        "ecr.api": "ecr",
        "ecr.dkr": "ecr",
        "logs": "logs",
        "monitoring": "cloudwatch",
        "sagemaker.api": "sagemaker",
        "ssm": "ssm",  # Session Manager, the only access to nodes
        "ssmmessages": "ssmmessages",
        "ec2messages": "ec2messages",
        "sts": "sts",
    },
    "hyperpod-eks": {
        "eks": "eks",
        "eks-auth": "eks-auth",  # Pod Identity
        "elasticloadbalancing": "elasticloadbalancing",
    },
    "accounting": {"secretsmanager": "secretsmanager"},  # the database's password
    "mlflow": {"experiments": "sagemaker-mlflow", "sts": "sts"},
    "hub-token": {"secretsmanager": "secretsmanager"},
    "keys": {"secretsmanager": "secretsmanager"},
    "bedrock": {"bedrock-runtime": "bedrock"},
    "judges": {"bedrock-runtime": "bedrock"},
}
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
        vpc: ec2.Vpc,
        subnets: Sequence[ec2.ISubnet],
        environment: Environment,
        names: ResourceNames,
    ) -> None:
        super().__init__(scope, id)
        self._names = names
        gateway = vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        for statement in self._s3_statements():
            gateway.add_to_policy(statement)
        chosen = subnets[:1] if environment.network.endpoints_in_one_zone else subnets
        services = required_services(environment)
        if not services:
            return
        group = ec2.SecurityGroup(
            self,
            "Group",
            vpc=vpc,
            description="Interface endpoints: HTTPS from within the VPC",
            allow_all_outbound=False,
        )
        group.add_ingress_rule(
            ec2.Peer.ipv4(str(environment.network.cidr)), ec2.Port.tcp(443), "HTTPS from the VPC"
        )
        for service, prefix in sorted(services.items()):
            endpoint = ec2.InterfaceVpcEndpoint(
                self,
                service.title().replace(".", "").replace("-", ""),
                vpc=vpc,
                service=_service(service, names.region),
                subnets=ec2.SubnetSelection(subnets=list(chosen)),
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


def required_services(environment: Environment) -> dict[str, str]:
    """Return the interface endpoints that an environment needs.

    Returns:
        By the last part of the endpoint's service name, the IAM prefix of the service.
    """
    if environment.network.endpoints == "gateway-only":
        return {}
    hyperpod = environment.hyperpod
    features = {
        "hyperpod": hyperpod.enabled,
        "hyperpod-eks": hyperpod.enabled and hyperpod.orchestrator == "eks",
        "accounting": hyperpod.enabled and hyperpod.accounting is not None,
        "mlflow": environment.training.mlflow,
        # In an isolated network no job can reach the Hub, so none needs its token.
        "hub-token": environment.storage.hub_token and environment.network.mode == "private",
        "keys": bool(environment.storage.keys),
        "bedrock": environment.bedrock.enabled,
        "judges": bool(environment.bedrock.judges),
    }
    services: dict[str, str] = {}
    for feature, on in features.items():
        if on:
            services.update(SERVICES_BY_FEATURE[feature])
    return services


def _service(name: str, region: str) -> ec2.IInterfaceVpcEndpointService:
    if name == "experiments":
        # The only service name with another prefix than com.amazonaws.
        return ec2.InterfaceVpcEndpointService(f"aws.sagemaker.{region}.experiments", 443)
    return ec2.InterfaceVpcEndpointService(f"com.amazonaws.{region}.{name}", 443)
