"""The Bedrock import role: read models to import, and nothing else."""

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import IamContext, read_bucket, read_key


def statements(estate: IamContext) -> list[iam.PolicyStatement]:
    """Read the models bucket and decrypt with its key."""
    return [*read_bucket(estate, "models"), read_key(estate.models, "Models")]
