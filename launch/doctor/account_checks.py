"""Checks of the account for a job: credentials, platform, quota, capacity, image, data."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cached_property

from botocore.exceptions import ClientError

from catalog.instances import instances
from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import DENIED, AwsSession, error_code, explain_aws_errors
from launch.doctor.checks import Check, CheckFailed, CheckWarning, Skipped
from launch.doctor.kms_checks import ExistingKeysCheck
from launch.doctor.linked_role_checks import LinkedRolesCheck
from launch.doctor.network_checks import ExistingNetworkCheck
from launch.doctor.page_checks import AlarmPathCheck
from launch.images.registry import BLOCKING_SEVERITIES, SCANNED, SCANNING, count_findings
from launch.job_inputs import collect_endpoints, collect_inputs, hub_names
from launch.resources import image_kind, stages_of
from training.config import Job, Pipeline
from training.config.runtime import Resources

_MAX_SKEW_S = 240.0
"""AWS rejects requests whose signature is more than five minutes old, or in the future."""


class AccountChecks:
    """Checks of the account of one environment.

    Args:
        account: Session of the account.
        job: Job that is to run; None to check only what every job needs.
    """

    def __init__(self, account: AwsSession, job: Job | Pipeline | None = None):
        self.account, self.job = account, job
        self.environment = account.environment

    def checks(self) -> list[Check]:
        """Return the checks in the order in which they are run."""
        return [
            Check("credentials", self.account.caller),
            Check("clock", self.clock, needs="credentials"),
            Check("vpc", ExistingNetworkCheck(self.account).run, needs="credentials"),
            Check("kms keys", ExistingKeysCheck(self.account).run, needs="credentials"),
            Check("linked roles", LinkedRolesCheck(self.account).run, needs="credentials"),
            Check("platform", self.published, needs="credentials"),
            Check("pages", AlarmPathCheck(self.account).run, needs="platform"),
            Check("quota", self.quota, needs="credentials"),
            Check("zones", self.zones, needs="platform"),
            Check("image", self.image, needs="platform"),
            Check("role", self.role, needs="platform"),
            Check("data", self.data, needs="platform"),
            Check("token", self.token, needs="platform"),
            Check("keys", self.keys, needs="platform"),
        ]

    @cached_property
    def _platform(self) -> PlatformParameters:
        return read_platform_parameters(self.environment, self.account.client("ssm"))

    @property
    def _resources(self) -> Resources | None:
        requested = [run.resources for run in stages_of(self.job)] if self.job else []
        return next((resources for resources in requested if resources.instance), None)

    def clock(self) -> str:
        """Compare this machine's clock with that of AWS.

        Raises:
            CheckFailed: The clocks differ so much that AWS rejects requests.
            Skipped: The response has no date.
        """
        with explain_aws_errors("reading the time from AWS"):
            answer = self.account.client("sts").get_caller_identity()
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is None:
            raise Skipped("the response has no date")
        skew_s = time.time() - parsedate_to_datetime(date).timestamp()
        if abs(skew_s) > _MAX_SKEW_S:
            raise CheckFailed(
                f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} AWS, which rejects "
                "requests that are 300 s off",
                "sudo timedatectl set-ntp true",
            )
        return f"{abs(skew_s):.0f} s from AWS's"

    def published(self) -> str:
        """Read the parameters that the stacks published."""
        platform = self._platform
        environment = platform.environment
        return f"{environment.prefix} in {environment.region}, {len(platform.values)} values"

    def quota(self) -> str:
        """Check that Service Quotas allows the job's instances.

        Raises:
            CheckFailed: The quota is lower than the number of instances.
        """
        with _skip_if_denied("Service Quotas"):
            quotas = self._training_quotas()
        resources = self._resources
        if resources is None:
            usable = sorted(
                name.split(" ")[0]
                for name, (value, _) in quotas.items()
                if _is_in_catalog(name) and value > 0
            )
            if not usable:
                raise CheckFailed(
                    "no instance type of the catalog may be used for training",
                    "temper doctor --job JOB names the quota that a job needs",
                )
            return f"training on {', '.join(usable[:6])}{' …' if len(usable) > 6 else ''}"
        usage = "spot training job usage" if resources.spot else "training job usage"
        name = f"{resources.instance} for {usage}"
        value, code = quotas.get(name, (0.0, "L-…"))
        if value < resources.count:
            raise CheckFailed(
                f"'{name}' is {value:.0f}, and the job needs {resources.count}",
                "aws service-quotas request-service-quota-increase --service-code sagemaker "
                f"--quota-code {code} --desired-value {resources.count} "
                f"--region {self.environment.region}",
            )
        return f"'{name}' is {value:.0f}"

    def _training_quotas(self) -> dict[str, tuple[float, str]]:
        quotas: dict[str, tuple[float, str]] = {}
        pages = self.account.client("service-quotas").get_paginator("list_service_quotas")
        for page in pages.paginate(ServiceCode="sagemaker"):
            for quota in page["Quotas"]:
                quotas[quota["QuotaName"]] = (quota["Value"], quota["QuotaCode"])
        return quotas

    def zones(self) -> str:
        """Check that a zone of the platform offers the job's instance type.

        Raises:
            CheckFailed: No zone of the platform offers it.
            Skipped: No job, or a job without an instance type, is given.
        """
        resources = self._resources
        if resources is None or resources.instance is None:
            raise Skipped("which instance? temper doctor --job JOB")
        ec2 = self.account.client("ec2")
        instance_type = resources.instance.removeprefix("ml.")
        with _skip_if_denied("EC2"):
            answer = ec2.describe_instance_type_offerings(
                LocationType="availability-zone",
                Filters=[{"Name": "instance-type", "Values": [instance_type]}],
            )
            subnets = ec2.describe_subnets(SubnetIds=self._platform.subnets)["Subnets"]
        offered = {offer["Location"] for offer in answer["InstanceTypeOfferings"]}
        platform_zones = {subnet["AvailabilityZone"] for subnet in subnets}
        if not offered & platform_zones:
            elsewhere = (
                f"{', '.join(sorted(offered))} offers it"
                if offered
                else "no zone of this Region offers it"
            )
            raise CheckFailed(
                f"{instance_type} is not offered in {', '.join(sorted(platform_zones))}; "
                f"{elsewhere}",
                f"add a zone to network.zones in environments/{self.environment.name}.yaml, "
                f"then make deploy ENV={self.environment.name}",
            )
        return f"{instance_type} in {', '.join(sorted(offered & platform_zones))}"

    def image(self) -> str:
        """Check that the container image exists, and that its scan found nothing that blocks it.

        Raises:
            CheckFailed: The image does not exist, was not scanned, or has findings of a severity
                that the environment refuses.
            CheckWarning: It has findings of severity HIGH, which the environment allows, or is no
                longer scanned.
            Skipped: The image is in no registry of this account, or is being scanned.
        """
        resources = self._resources
        kind = image_kind(resources.instance) if resources and resources.instance else "gpu"
        uri = resources.image if resources and resources.image else self._platform.image(kind)
        if ".dkr.ecr." not in uri or "@" not in uri:
            raise Skipped(f"{uri} is in no registry of this account")
        repository, _, digest = uri.partition("/")[2].partition("@")
        ecr, image = self.account.client("ecr"), {"imageDigest": digest}
        build = f"temper publish-image {kind} --env {self.environment.name}"
        with _skip_if_denied("the registry"):
            missing = CheckFailed(f"{uri} is not in the registry", build)
            with _raise_on(("ImageNotFoundException", "RepositoryNotFoundException"), missing):
                ecr.describe_images(repositoryName=repository, imageIds=[image])
            unscanned = CheckFailed(f"{repository}@{digest[:19]} was never scanned", build)
            with _raise_on(("ScanNotFoundException",), unscanned):
                scan = ecr.describe_image_scan_findings(repositoryName=repository, imageId=image)
        short = f"{repository}@{digest[:19]}"
        self._require_scan(scan.get("imageScanStatus", {}), short, repository, digest, build)
        counts = scan.get("imageScanFindings", {}).get("findingSeverityCounts", {})
        policy = self.environment.refuse_findings_from
        severities = BLOCKING_SEVERITIES.get(policy, BLOCKING_SEVERITIES["HIGH"])
        if blocking := count_findings(counts, severities):
            raise CheckFailed(
                f"the scan of {short} found {blocking}; the environment refuses {policy} findings",
                build,
            )
        if allowed := count_findings(counts, ("HIGH",)):
            raise CheckWarning(
                f"the scan of {short} found {allowed}; jobs may use it, because the environment "
                f"refuses {policy} findings only"
            )
        return f"{short}, scanned"

    def _require_scan(
        self, status: Mapping[str, str], image: str, repository: str, digest: str, build: str
    ) -> None:
        """Raise unless a scan of the image has finished.

        Args:
            status: State and description of the scan, as ECR gives them.
            image: Short name of the image, for the message.
            repository: Repository of the image.
            digest: Digest of the image.
            build: Command that publishes another image.

        Raises:
            CheckFailed: The scan failed, or ECR cannot scan the image.
            CheckWarning: The image is no longer scanned for vulnerabilities that became known.
            Skipped: The scan has not finished yet.
        """
        state = status.get("status", "UNKNOWN")
        why = f" ({status['description']})" if status.get("description") else ""
        if state in SCANNING:
            raise Skipped(f"the scan of {image} is {state}: run the check again in a few minutes")
        # Enhanced scanning ends some time after the push; the image passed it when it was promoted.
        if state == "SCAN_ELIGIBILITY_EXPIRED":
            raise CheckWarning(f"{image} is no longer scanned: its scan is {state}{why}", build)
        # Only basic scanning fails, and only it scans on request.
        if state == "FAILED":
            again = (
                f"aws ecr start-image-scan --repository-name {repository} "
                f"--image-id imageDigest={digest} --region {self.environment.region}"
            )
            raise CheckFailed(f"{image} is not scanned: its scan is {state}{why}", again)
        if state not in SCANNED:
            raise CheckFailed(f"{image} is not scanned: its scan is {state}{why}", build)

    def role(self) -> str:
        """Check that SageMaker may assume the training role.

        Raises:
            CheckFailed: The role does not exist, or does not trust SageMaker.
        """
        arn = self._platform["roles/training"]
        fix = f"make deploy ENV={self.environment.name}"
        missing = CheckFailed(f"{arn} does not exist", fix)
        with _skip_if_denied("IAM"), _raise_on(("NoSuchEntity",), missing):
            answer = self.account.client("iam").get_role(RoleName=arn.rpartition("/")[2])
        if "sagemaker.amazonaws.com" not in json.dumps(answer["Role"]["AssumeRolePolicyDocument"]):
            raise CheckFailed(f"{arn} cannot be assumed by SageMaker", fix)
        return arn.rpartition("/")[2]

    def data(self) -> str:
        """Check that the S3 addresses that the job reads contain data and can be listed."""
        store = S3Store(self.account.client("s3"))
        if self.job is None:
            bucket = S3Uri(self._platform["buckets/data"], "")
            next(store.list(bucket), None)
            return f"{bucket} can be listed"
        inputs = collect_inputs(self.job)
        for artifact in inputs:
            if artifact.path is None:
                store.require_objects(artifact.key, S3Uri.parse(artifact.s3_uri))
        in_s3 = [artifact.source for artifact in inputs if artifact.path is None]
        local_mib = sum(artifact.size_bytes for artifact in inputs if artifact.path) / 2**20
        return ", ".join([*in_s3, f"{local_mib:.1f} MiB from this machine"])

    def token(self) -> str:
        """Check that the secret of the hub token has a value, if the job needs the hub.

        Raises:
            Skipped: The environment has no such secret.
        """
        if self.job is not None and not hub_names(self.job):
            return "not needed: the job downloads nothing from the model hub"
        name = self._platform.get("secrets/hub-token")
        if name is None:
            raise Skipped("this environment has no secret for it")
        return self._require_values([name])

    def keys(self) -> str:
        """Check that the secrets of the API keys that the job uses have values."""
        prefix = "secrets/keys/"
        secrets = {
            name.removeprefix(prefix): secret
            for name, secret in self._platform.values.items()
            if prefix in name
        }
        if self.job is not None:
            needed = {endpoint.key_variable for endpoint in collect_endpoints(self.job)}
            secrets = {variable: name for variable, name in secrets.items() if variable in needed}
        if not secrets:
            return "not needed: no endpoint is called with a key"
        return self._require_values(list(secrets.values()))

    def _require_values(self, names: list[str]) -> str:
        """Return a message if a person has stored a value in each of these secrets.

        Raises:
            CheckFailed: A secret still has the random value with which it was created.
        """
        for name in names:
            with _skip_if_denied("Secrets Manager"):
                secret = self.account.client("secretsmanager").describe_secret(SecretId=name)
            stages = [
                stage
                for version in secret.get("VersionIdsToStages", {}).values()
                for stage in version
            ]
            # The stack creates the secret with a random value, its first version. A value that a
            # person stores is the second, so only then does a previous version exist.
            if "AWSPREVIOUS" not in stages:
                raise CheckFailed(
                    f"the secret {name} has no value yet",
                    f"aws secretsmanager put-secret-value --secret-id {name} --secret-string … "
                    f"--region {self.environment.region}",
                )
        return f"{', '.join(names)}: value stored"


@contextmanager
def _skip_if_denied(service: str) -> Iterator[None]:
    """Skip the check if the credentials may not call a service, rather than fail it."""
    denied = Skipped(f"these credentials may not call {service}")
    with explain_aws_errors(f"calling {service}"), _raise_on(DENIED, denied):
        yield


@contextmanager
def _raise_on(codes: Collection[str], finding: CheckFailed | Skipped) -> Iterator[None]:
    """Raise a finding in place of an AWS error that has one of these codes.

    Raises:
        ClientError: An error with another code.
        finding: An error with one of the codes.
    """
    try:
        yield
    except ClientError as error:
        if error_code(error) in codes:
            raise finding from None
        raise


def _is_in_catalog(quota: str) -> bool:
    instance_type, _, usage = quota.partition(" for ")
    return usage == "training job usage" and instance_type.removeprefix("ml.") in instances()
