"""Permissions of the container of a processing job, which prepares data.

It reads the data bucket, writes the data sets below `prepared/`, and starts no job. Models, runs
and secrets are out of its reach; so is Bedrock, since a teacher is asked on one machine.
docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html#sagemaker-roles-createprocessingjob-perms
"""

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import (
    IamContext,
    allow,
    grant_key,
    pull_images,
    put_metrics,
    read_bucket,
    use_key,
    write_logs,
)

IMAGE_KIND = "prepare"
FOLDER = "prepared"
"""Folder of the data bucket in which data sets are written."""
_LOG_GROUP = "/aws/sagemaker/ProcessingJobs"


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to read data, write prepared data, pull the image and log.

    Args:
        context: Names and keys of the environment.
    """
    folder = f"{context.names.bucket_arn('data')}/{FOLDER}"
    return [
        *read_bucket(context, "data"),
        allow(
            "WritePrepared",
            ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObject"],
            [f"{folder}/*"],
        ),
        remove_unfinished(context),
        use_key(context.data, "Data"),
        grant_key(context.data, "Data"),
        *pull_images(context, IMAGE_KIND),
        put_metrics(_LOG_GROUP),
        write_logs(context, _LOG_GROUP),
    ]


def remove_unfinished(context: IamContext) -> iam.PolicyStatement:
    """Return the permission to delete a data set that is being built, and no finished one.

    It is built under a name of its own, which goes when it is complete; what a preparation that was
    given up has built is deleted by people.
    """
    unfinished = f"{context.names.bucket_arn('data')}/{FOLDER}/*/.building-*"
    return allow("RemoveUnfinished", ["s3:DeleteObject"], [unfinished])
