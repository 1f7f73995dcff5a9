"""What an account must have for a job: somebody known, a platform, a quota, capacity, an image."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cached_property

from botocore.exceptions import ClientError

from catalog.instances import instances
from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import DENIED, AwsSession, code_of, explained
from launch.doctor.checks import Check, CheckFailed, Skipped
from launch.job_inputs import collect_inputs, endpoints, hub_names
from launch.resources import image_kind, runs_of
from training.config import Job, Pipeline
from training.config.runtime import Resources

_MOST_SKEW_S = 240.0
"""AWS refuses what was signed more than five minutes ago, or ahead."""
_GRAVE = ("CRITICAL", "HIGH")


class AccountChecks:
    """The account of one environment, for one job or for any.

    Args:
        account: Whose.
        job: What is to run; None to look at what every job needs.
    """

    def __init__(self, account: AwsSession, job: Job | Pipeline | None = None):
        self.account, self.job = account, job
        self.environment = account.environment

    def checks(self) -> list[Check]:
        """Return what is looked at, in order."""
        return [
            Check("credentials", self.account.caller),
            Check("clock", self.clock, needs="credentials"),
            Check("platform", self.platform_is_there, needs="credentials"),
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
        found = [run.resources for run in runs_of(self.job)] if self.job else []
        return next((resources for resources in found if resources.instance), None)

    def clock(self) -> str:
        """Compare this machine's clock with AWS's."""
        with explained("asking AWS for the time"):
            answer = self.account.client("sts").get_caller_identity()
        told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if told is None:
            raise Skipped("the answer bears no date")
        skew_s = time.time() - parsedate_to_datetime(told).timestamp()
        if abs(skew_s) > _MOST_SKEW_S:
            raise CheckFailed(
                f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} AWS, which refuses "
                "requests from 300 s on",
                "sudo timedatectl set-ntp true",
            )
        return f"{abs(skew_s):.0f} s from AWS's"

    def platform_is_there(self) -> str:
        """Read what the stacks published."""
        found = self._platform
        return (
            f"{found.environment.prefix} in {found.environment.region}, {len(found.values)} values"
        )

    def quota(self) -> str:
        """See whether Service Quotas allows the job's instances."""
        with _as_allowed("Service Quotas"):
            allowed = self._training_quotas()
        resources = self._resources
        if resources is None:
            mine = sorted(k.split(" ")[0] for k, (n, _) in allowed.items() if _is_ours(k) and n > 0)
            if not mine:
                raise CheckFailed(
                    "no instance type of the catalogue may be used for training",
                    "make doctor JOB=… names the quota that a job needs",
                )
            return f"training on {', '.join(mine[:6])}{' …' if len(mine) > 6 else ''}"
        usage = "spot training job usage" if resources.spot else "training job usage"
        name = f"{resources.instance} for {usage}"
        count, code = allowed.get(name, (0.0, "L-…"))
        if count < resources.count:
            raise CheckFailed(
                f"'{name}' is {count:.0f}, and the job takes {resources.count}",
                "aws service-quotas request-service-quota-increase --service-code sagemaker "
                f"--quota-code {code} --desired-value {resources.count} "
                f"--region {self.environment.region}",
            )
        return f"'{name}' is {count:.0f}"

    def _training_quotas(self) -> dict[str, tuple[float, str]]:
        found: dict[str, tuple[float, str]] = {}
        pages = self.account.client("service-quotas").get_paginator("list_service_quotas")
        for page in pages.paginate(ServiceCode="sagemaker"):
            for quota in page["Quotas"]:
                found[quota["QuotaName"]] = (quota["Value"], quota["QuotaCode"])
        return found

    def zones(self) -> str:
        """See in which of the platform's zones the job's instance type is offered."""
        resources = self._resources
        if resources is None or resources.instance is None:
            raise Skipped("which instance? make doctor JOB=…")
        ec2 = self.account.client("ec2")
        kind = resources.instance.removeprefix("ml.")
        with _as_allowed("EC2"):
            answer = ec2.describe_instance_type_offerings(
                LocationType="availability-zone",
                Filters=[{"Name": "instance-type", "Values": [kind]}],
            )
            subnets = ec2.describe_subnets(SubnetIds=self._platform.subnets)["Subnets"]
        offered = {offer["Location"] for offer in answer["InstanceTypeOfferings"]}
        mine = {subnet["AvailabilityZone"] for subnet in subnets}
        if not offered & mine:
            where = (
                f"it is in {', '.join(sorted(offered))}" if offered else "nor anywhere else here"
            )
            raise CheckFailed(
                f"{kind} is not offered in {', '.join(sorted(mine))}; {where}",
                f"add a zone to network.zones in environments/{self.environment.name}.yaml, "
                f"then make deploy ENV={self.environment.name}",
            )
        return f"{kind} in {', '.join(sorted(offered & mine))}"

    def image(self) -> str:
        """See whether the image is there, and what its scan found."""
        resources = self._resources
        kind = image_kind(resources.instance) if resources and resources.instance else "gpu"
        uri = resources.image if resources and resources.image else self._platform.image(kind)
        if ".dkr.ecr." not in uri or "@" not in uri:
            raise Skipped(f"{uri} is in no registry of this account")
        repository, _, digest = uri.partition("/")[2].partition("@")
        ecr, image = self.account.client("ecr"), {"imageDigest": digest}
        build = f"make image KIND={kind} ENV={self.environment.name}"
        with _as_allowed("the registry"):
            try:
                ecr.describe_images(repositoryName=repository, imageIds=[image])
            except ClientError as error:
                if code_of(error) in ("ImageNotFoundException", "RepositoryNotFoundException"):
                    raise CheckFailed(f"{uri} is not in the registry", build) from None
                raise
            try:
                found = ecr.describe_image_scan_findings(repositoryName=repository, imageId=image)
            except ClientError as error:
                if code_of(error) == "ScanNotFoundException":
                    raise CheckFailed(
                        f"{repository}@{digest[:19]} was never scanned", build
                    ) from None
                raise
        counts = found.get("imageScanFindings", {}).get("findingSeverityCounts", {})
        if grave := {level: counts[level] for level in _GRAVE if counts.get(level)}:
            told = ", ".join(f"{n} {level.lower()}" for level, n in grave.items())
            raise CheckFailed(f"the scan of {repository}@{digest[:19]} found {told}", build)
        return f"{repository}@{digest[:19]}, scanned"

    def role(self) -> str:
        """See whether SageMaker may take the training role."""
        arn = self._platform["roles/training"]
        with _as_allowed("IAM"):
            try:
                answer = self.account.client("iam").get_role(RoleName=arn.rpartition("/")[2])
            except ClientError as error:
                if code_of(error) == "NoSuchEntity":
                    fix = f"make deploy ENV={self.environment.name}"
                    raise CheckFailed(f"{arn} does not exist", fix) from None
                raise
        if "sagemaker.amazonaws.com" not in json.dumps(answer["Role"]["AssumeRolePolicyDocument"]):
            fix = f"make deploy ENV={self.environment.name}"
            raise CheckFailed(f"{arn} cannot be taken by SageMaker", fix)
        return arn.rpartition("/")[2]

    def data(self) -> str:
        """See whether what the job reads from S3 is there and may be read."""
        store = S3Store(self.account.client("s3"))
        if self.job is None:
            bucket = S3Uri(self._platform["buckets/data"], "")
            next(store.list(bucket), None)
            return f"{bucket} can be listed"
        items = collect_inputs(self.job)
        for item in items:
            if item.path is None:
                store.refuse_empty(item.key, S3Uri.parse(item.address))
        named = [item.name for item in items if item.path is None]
        here = sum(item.size_bytes for item in items if item.path) / 2**20
        return ", ".join([*named, f"{here:.1f} MiB from this machine"])

    def token(self) -> str:
        """See whether the Hub's token was put in its place, where a job needs one."""
        if self.job is not None and not hub_names(self.job):
            return "not needed: the job takes nothing from the model hub"
        name = self._platform.get("secrets/hub-token")
        if name is None:
            raise Skipped("this environment keeps none")
        return self._filled([name])

    def keys(self) -> str:
        """See whether the keys of the endpoints that a job calls were put in their places."""
        kept = "secrets/keys/"
        names = {n.removeprefix(kept): v for n, v in self._platform.values.items() if kept in n}
        if self.job is not None:
            wanted = {called.key_variable for called in endpoints(self.job)}
            names = {variable: name for variable, name in names.items() if variable in wanted}
        if not names:
            return "not needed: no endpoint is called with a key"
        return self._filled(list(names.values()))

    def _filled(self, names: list[str]) -> str:
        """Say that somebody has put a value into each of these secrets."""
        for name in names:
            with _as_allowed("Secrets Manager"):
                found = self.account.client("secretsmanager").describe_secret(SecretId=name)
            stages = [
                stage for each in found.get("VersionIdsToStages", {}).values() for stage in each
            ]
            # It is made with a random value; the first that a person puts in is its second.
            if "AWSPREVIOUS" not in stages:
                raise CheckFailed(
                    f"nobody has put a value into the secret {name}",
                    f"aws secretsmanager put-secret-value --secret-id {name} --secret-string … "
                    f"--region {self.environment.region}",
                )
        return f"{', '.join(names)}: filled in"


@contextmanager
def _as_allowed(what: str) -> Iterator[None]:
    """Say of what these credentials may not see that it was not seen, not that it is wrong."""
    with explained(f"asking {what}"):
        try:
            yield
        except ClientError as error:
            if code_of(error) in DENIED:
                raise Skipped(f"these credentials may not ask {what}") from None
            raise


def _is_ours(quota: str) -> bool:
    kind, _, usage = quota.partition(" for ")
    return usage == "training job usage" and kind.removeprefix("ml.") in instances()
