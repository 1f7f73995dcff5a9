"""Rules for ARNs, accounts and names of other things in the account."""

from collections.abc import Iterator

from stacks.settings.base import PERMISSION_SET, duplicates
from stacks.settings.environment import Environment
from stacks.settings.hyperpod_rules import arn_problems

# Prefixes of Regions whose partition is not `aws`, by partition.
OTHER_PARTITIONS = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "us-isof-": "aws-iso-f",
    "eu-isoe-": "aws-iso-e",
    "eusc-": "aws-eusc",
}


def partition(environment: Environment) -> Iterator[str]:
    """Yield a problem if the Region is in another partition than `aws`."""
    for prefix, name in OTHER_PARTITIONS.items():
        if environment.region.startswith(prefix):
            yield (
                f"region: {environment.region} is in the partition {name}, which is not supported: "
                "its endpoint names, AWS images and service offers differ and were never checked; "
                "choose a Region of the partition aws"
            )


def in_other_partition(region: str) -> bool:
    """Return whether a Region is in another partition than `aws`."""
    return region.startswith(tuple(OTHER_PARTITIONS))


def arns(environment: Environment) -> Iterator[str]:
    """Yield ARNs of another partition, and policies of another account."""
    for key, arn in _arns(environment):
        if arn.split(":")[1] != "aws":
            yield (
                f"{key}: {arn} is in the partition {arn.split(':')[1]}, and {environment.region} "
                "in aws; name one of this partition"
            )
    boundary = environment.security.permission_boundary
    account = environment.account
    if boundary.startswith("arn:") and account and boundary.split(":")[4] not in (account, "aws"):
        yield (
            f"security.permission_boundary: {boundary} is a policy of another account than "
            f"{account}, and IAM takes boundaries of the role's account only; name one of {account}"
        )


def permission_sets(environment: Environment) -> Iterator[str]:
    """Yield a problem if MFA is required of sessions that cannot show it."""
    security = environment.security
    lists = {
        "engineers": security.engineers,
        "image_approvers": security.image_approvers,
        "model_approvers": security.model_approvers,
    }
    for key, principals in lists.items():
        sets = [each for each in principals if each.startswith(PERMISSION_SET)]
        if sets and security.require_mfa:
            yield (
                f"security.require_mfa: {', '.join(sets)} in security.{key}: sessions of IAM "
                "Identity Center do not carry the MFA condition key, so no person could assume the "
                "role; require MFA in Identity Center, and set require_mfa: false"
            )


def kms_keys(environment: Environment) -> Iterator[str]:
    """Yield keys of another Region, and key administrators without a key."""
    arns = environment.security.kms_key_arns
    given = {domain: arn for domain, arn in arns if arn}
    keys = {f"security.kms_key_arns.{domain}": arn for domain, arn in given.items()}
    bucket = environment.storage.data_bucket
    if bucket and bucket.kms_key_arn:
        keys["storage.data_bucket.kms_key_arn"] = bucket.kms_key_arn
    for path, arn in keys.items():
        region = arn.split(":")[3]
        if region != environment.region:
            yield (
                f"{path}: {arn} is in {region}, and services use keys of "
                f"their own Region only; name a key of {environment.region}"
            )
    if len(given) == len(type(arns).model_fields) and environment.security.key_administrators:
        yield (
            "security.key_administrators: has no effect, because all keys are yours "
            "(kms_key_arns), with policies of yours; remove it"
        )


def _arns(environment: Environment) -> Iterator[tuple[str, str]]:
    security = environment.security
    lists = {
        "security.engineers": security.engineers,
        "security.image_approvers": security.image_approvers,
        "security.model_approvers": security.model_approvers,
        "security.model_deployers": security.model_deployers,
        "security.platform_ci": security.platform_ci,
        "security.key_administrators": security.key_administrators,
    }
    for key, values in lists.items():
        yield from (
            (f"{key}.{index}", arn) for index, arn in enumerate(values) if arn.startswith("arn:")
        )
    for domain, key_arn in security.kms_key_arns:
        if key_arn:
            yield f"security.kms_key_arns.{domain}", key_arn
    if security.permission_boundary.startswith("arn:"):
        yield "security.permission_boundary", security.permission_boundary
    hyperpod = environment.hyperpod
    if hyperpod.eks_cluster_arn:
        yield "hyperpod.eks_cluster_arn", hyperpod.eks_cluster_arn
    for index, group in enumerate(hyperpod.groups):
        if group.training_plan:
            yield f"hyperpod.groups.{index}.training_plan", group.training_plan


def repeated(environment: Environment) -> Iterator[str]:
    """Yield values that a list contains twice."""
    security = environment.security
    lists = {
        "security.engineers": security.engineers,
        "security.image_approvers": security.image_approvers,
        "security.model_approvers": security.model_approvers,
        "security.platform_ci": security.platform_ci,
        "security.key_administrators": security.key_administrators,
        "training.registry_readers": environment.training.registry_readers,
        "bedrock.judges": environment.bedrock.judges,
        "images.kinds": environment.images.kinds,
    }
    for key, values in lists.items():
        yield from duplicates(key, values)


def registry_readers(environment: Environment) -> Iterator[str]:
    """Yield the account itself, which reads its registry without a policy."""
    if environment.account in environment.training.registry_readers:
        yield (
            f"training.registry_readers: {environment.account} is the account of the environment, "
            "whose roles read the registry by their own policies; name other accounts only"
        )


def throughput_models(environment: Environment) -> Iterator[str]:
    """Yield the models of another Region or account."""
    for index, throughput in enumerate(environment.bedrock.throughput):
        key = f"bedrock.throughput.{index}.model"
        if throughput.model.startswith("arn:"):
            parts = throughput.model.split(":")
            if len(parts) < 6:
                yield f"{key}: {throughput.model!r} is not an ARN; write the model's id or its ARN"
            elif parts[4]:
                yield from arn_problems(environment, key, throughput.model, "a model")


def prefix(environment: Environment) -> Iterator[str]:
    """Yield a problem if AWS reserves the beginning of the names."""
    for reserved, service in {
        "aws": "Parameter Store",
        "ssm": "Parameter Store",
        "sthree-": "S3",
        "amzn-s3-demo-": "S3",
    }.items():
        if environment.prefix.startswith(reserved):
            yield (
                f"prefix: {environment.prefix!r} begins with {reserved!r}, which {service} "
                "reserves; take another one, like temper-dev"
            )


def secret_keys(environment: Environment) -> Iterator[str]:
    """Yield duplicate keys, and variables that would change how a job reaches AWS."""
    yield from duplicates("storage.keys", environment.storage.keys)
    for index, key in enumerate(environment.storage.keys):
        if key.startswith("AWS_"):
            yield (
                f"storage.keys.{index}: {key!r} is a variable of the AWS SDKs, which would replace "
                "the role of the job; name the key after the service it is for, like JUDGE_KEY"
            )
