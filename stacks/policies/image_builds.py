"""Permissions to start a build of the images, and to change nothing about it but its inputs."""

from aws_cdk import aws_iam as iam

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow

BUILD_VARIABLES = ["COMMIT", "KIND", "VERSION"]
# Fields of StartBuild that would replace what the project fixes: source, build commands, build
# image, role and network access. A request that has one of them is not allowed. Fields that are
# objects have a Boolean key, for which IfExists also accepts a request without the key.
# https://docs.aws.amazon.com/codebuild/latest/userguide/action-context-keys.html
FIXED_FIELDS = (
    "artifacts.location",
    "cache.location",
    "cache.type",
    "encryptionKey",
    "environment.certificate",
    "environment.computeType",
    "environment.fleet.fleetArn",
    "environment.image",
    "environment.imagePullCredentialsType",
    "environment.registryCredential.credential",
    "environment.type",
    "logsConfig.s3Logs.location",
    "serviceRole",
    "source.auth.resource",
    "source.auth.type",
    "source.buildspec",
    "source.location",
)
FIXED_OBJECTS = ("artifacts", "cache", "logsConfig", "secondaryArtifacts", "secondarySources")


def statements(names: ResourceNames) -> list[iam.PolicyStatement]:
    """Return the permissions to start builds of the one project, and to follow them."""
    project = [names.arn("codebuild", f"project/{names.build_project}")]
    return [
        allow(
            "StartImageBuild",
            ["codebuild:StartBuild"],
            project,
            {
                "Null": {f"codebuild:{field}": "true" for field in FIXED_FIELDS},
                "BoolIfExists": {f"codebuild:{field}": "false" for field in FIXED_OBJECTS},
                "ForAllValues:StringEquals": {
                    "codebuild:environment.environmentVariables.name": BUILD_VARIABLES
                },
            },
        ),
        allow(
            "FollowImageBuilds",
            ["codebuild:BatchGetBuilds", "codebuild:ListBuildsForProject"],
            project,
        ),
    ]
