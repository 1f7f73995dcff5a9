"""The few names that somebody must find; everything else is named by CloudFormation."""

from dataclasses import dataclass

from aws_cdk import Aws

from stacks.settings import Environment


@dataclass(frozen=True)
class ResourceNames:
    """Names and ARNs that several stacks agree on before any of them exists."""

    prefix: str
    region: str
    account: str

    @classmethod
    def of(cls, environment: Environment) -> "ResourceNames":
        """The names of one environment; its account may be known only at deployment."""
        account = environment.account or Aws.ACCOUNT_ID
        return cls(environment.prefix, environment.region, account)

    def bucket(self, kind: str) -> str:
        """A bucket's name; S3 names are global, hence account and Region."""
        return f"{self.prefix}-{kind}-{self.account}-{self.region}"

    def bucket_arn(self, kind: str) -> str:
        """The ARN of the bucket of that kind."""
        return f"arn:{Aws.PARTITION}:s3:::{self.bucket(kind)}"

    def repository(self, kind: str) -> str:
        """An image repository's name: `temper-dev/gpu`."""
        return f"{self.prefix}/{kind}"

    def parameter(self, path: str) -> str:
        """A parameter's name: `/temper-dev/training/role-arn`."""
        return f"/{self.prefix}/{path}"

    def arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        """An ARN in this account and Region."""
        where = self.region if region is None else region
        return f"arn:{Aws.PARTITION}:{service}:{where}:{self.account}:{resource}"

    @property
    def build_project(self) -> str:
        """The CodeBuild project that people start image builds of."""
        return f"{self.prefix}-images"

    @property
    def eks_cluster(self) -> str:
        """The EKS cluster of ours that HyperPod's nodes join, where one is made."""
        return f"{self.prefix}-eks"

    @property
    def metrics(self) -> str:
        """The namespace of our own metrics."""
        return f"Temper/{self.prefix}"
