"""Physical names that code outside CloudFormation must find; all other names are generated."""

from dataclasses import dataclass

from aws_cdk import Aws

from stacks.settings import Environment


@dataclass(frozen=True)
class ResourceNames:
    """Names and ARNs that several stacks refer to before the resources exist."""

    prefix: str
    region: str
    account: str
    data_bucket: str | None = None

    @classmethod
    def from_environment(cls, environment: Environment) -> "ResourceNames":
        """Return the names of an environment; an account left open is resolved at deployment."""
        account = environment.account or Aws.ACCOUNT_ID
        existing = environment.storage.data_bucket
        return cls(
            environment.prefix, environment.region, account, existing.name if existing else None
        )

    def bucket(self, kind: str) -> str:
        """Return the name of a bucket.

        S3 bucket names are global, so the name contains the account and the Region. The bucket of
        the data may exist already, under a name of its own.
        """
        if kind == "data" and self.data_bucket:
            return self.data_bucket
        return f"{self.prefix}-{kind}-{self.account}-{self.region}"

    @property
    def lifecycle_bucket(self) -> str:
        """Name of the bucket with the lifecycle scripts of HyperPod.

        AWS asks for the beginning `sagemaker-`:
        docs.aws.amazon.com/sagemaker/latest/APIReference/API_ClusterLifeCycleConfig.html
        """
        return f"sagemaker-{self.prefix}-{self.account}-{self.region}"

    def bucket_arn(self, kind: str) -> str:
        """Return the ARN of the bucket of that kind."""
        return f"arn:{Aws.PARTITION}:s3:::{self.bucket(kind)}"

    def repository(self, kind: str) -> str:
        """Return the name of an image repository: `temper-dev/gpu`."""
        return f"{self.prefix}/{kind}"

    def repository_uri(self, kind: str) -> str:
        """Return the address of an image repository, without a tag or digest."""
        registry = f"{self.account}.dkr.ecr.{self.region}.{Aws.URL_SUFFIX}"
        return f"{registry}/{self.repository(kind)}"

    def parameter(self, path: str) -> str:
        """Return the name of an SSM parameter: `/temper-dev/training/role-arn`."""
        return f"/{self.prefix}/{path}"

    def arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        """Return an ARN in this account.

        Args:
            service: Service prefix, such as `sagemaker`.
            resource: Resource part of the ARN, with wildcards if needed.
            region: Region of the ARN; the environment's if None, none for global services if empty.
        """
        arn_region = self.region if region is None else region
        return f"arn:{Aws.PARTITION}:{service}:{arn_region}:{self.account}:{resource}"

    @property
    def build_project(self) -> str:
        """Name of the CodeBuild project that builds the images."""
        return f"{self.prefix}-images"

    @property
    def eks_cluster(self) -> str:
        """Name of the EKS cluster that the platform creates for HyperPod (`hyperpod.eks`)."""
        return f"{self.prefix}-eks"

    @property
    def runs_topic(self) -> str:
        """Name of the topic of notices to the creators of runs."""
        return f"{self.prefix}-runs"

    @property
    def event_source(self) -> str:
        """EventBridge source of the events that the platform's functions publish."""
        return f"temper.{self.prefix}"

    @property
    def metrics(self) -> str:
        """CloudWatch namespace of the platform's own metrics."""
        return f"Temper/{self.prefix}"
