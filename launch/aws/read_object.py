"""Readers of S3 and of the model registry for the planner, which has no AWS client of its own."""

from __future__ import annotations

from launch.errors import LaunchError


def read_object(address: str) -> str:
    """Return the text of an object, with the credentials of the environment variables.

    Args:
        address: `s3://BUCKET/KEY`.

    Raises:
        LaunchError: There is no such object, or it cannot be read.
    """
    # Imported here: most plans read no bucket, and boto3 takes a noticeable time.
    import boto3
    from botocore.config import Config

    from launch.aws.s3 import S3Store, S3Uri
    from launch.aws.session import explain_aws_errors

    limits = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
    with explain_aws_errors("connecting to s3"):
        client = boto3.client("s3", config=limits)
    text = S3Store(client).get_text(S3Uri.parse(address))
    if text is None:
        raise LaunchError("there is no such object")
    return text


def read_registry(source: str) -> str:
    """Return the S3 address of a version in the model registry, approved or not.

    Args:
        source: `registry:GROUP/VERSION`, `registry:GROUP` (its newest approved one), or an ARN.

    Raises:
        LaunchError: There is no such version, or it cannot be read.
    """
    # Imported here, as above.
    import boto3
    from botocore.config import Config

    from launch.aws.model_registry import find_version
    from launch.aws.session import explain_aws_errors
    from training.config.model import REGISTRY

    limits = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
    region = None if source.startswith(REGISTRY) else source.split(":")[3]
    with explain_aws_errors("connecting to sagemaker"):
        client = boto3.client("sagemaker", region_name=region, config=limits)
    return find_version(client, source).address
