"""The Bedrock import role: read models to import, and nothing else."""

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import IamContext, read_bucket, read_key


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Read the models bucket and decrypt with its key."""
    return [*read_bucket(context, "models"), read_key(context.models, "Models")]
