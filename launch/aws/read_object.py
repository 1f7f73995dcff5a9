"""Reader of small objects in S3 for the planner, which has no AWS client of its own."""

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
