"""Permissions of the Bedrock import role: read the models to import, and nothing else."""

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import IamContext, read_bucket, read_key


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to read the models bucket and to decrypt with its key."""
    return [*read_bucket(context, "models"), read_key(context.models, "Models")]
