"""SSM parameters that `launch` reads, under the prefix of the environment."""

from collections.abc import Mapping

from aws_cdk import aws_ssm as ssm
from constructs import Construct

from stacks.naming import ResourceNames


def publish_parameters(scope: Construct, names: ResourceNames, values: Mapping[str, str]) -> None:
    """Create an SSM parameter for each value.

    Args:
        scope: Construct that the parameters belong to.
        names: Names of the environment.
        values: By path, the values; `roles/training` becomes `/<prefix>/roles/training`.
    """
    parameters = Construct(scope, "Published")
    for path, value in values.items():
        ssm.StringParameter(
            parameters,
            "".join(part.title() for part in path.replace("/", "-").split("-")),
            parameter_name=names.parameter(path),
            string_value=value,
            description="Read by launch; written by the platform",
        )
