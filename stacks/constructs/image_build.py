"""CodeBuild project that builds and pushes the container images."""

from collections.abc import Mapping
from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.naming import ResourceNames

SIZES = {
    "small": codebuild.ComputeType.SMALL,
    "medium": codebuild.ComputeType.MEDIUM,
    "large": codebuild.ComputeType.LARGE,
    "x2_large": codebuild.ComputeType.X2_LARGE,
}

# CodeBuild's default of 60 minutes is short for a first build, which compiles CUDA extensions.
TIMEOUT_MINUTES = 120


class ImageBuild(Construct):
    """Project that runs `make image KIND=<KIND>` on `source/temper.zip` of the runs bucket.

    Images are tagged `<version>-<commit>`; whoever starts a build passes both, and the version of
    the source object, so that a later upload is never built. With `cached`, base images are pulled
    through the pull-through cache of the account.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        role: iam.Role,
        source: s3.IBucket,
        key: kms.IKey,
        log: logs.ILogGroup,
        size: Literal["small", "medium", "large", "x2_large"],
        cached: bool,
    ) -> None:
        super().__init__(scope, id)
        registry = f"{names.account}.dkr.ecr.{names.region}.amazonaws.com"
        self.project = codebuild.Project(
            self,
            "Project",
            project_name=names.build_project,
            description="Builds and pushes containers/",
            timeout=cdk.Duration.minutes(TIMEOUT_MINUTES),
            role=role.without_policy_updates(),
            source=codebuild.Source.s3(bucket=source, path="source/temper.zip"),
            environment=codebuild.BuildEnvironment(
                build_image=codebuild.LinuxBuildImage.STANDARD_7_0,
                compute_type=SIZES[size],
                privileged=True,
                environment_variables=_variables(
                    {
                        "REGISTRY": registry,
                        "REPOSITORY": names.prefix,
                        "KIND": "gpu",
                        "VERSION": "unset",
                        "COMMIT": "unset",
                        # Registry of the AWS base images.
                        "PUBLIC_REGISTRY": f"{registry}/{names.prefix}/public"
                        if cached
                        else "public.ecr.aws",
                    }
                ),
            ),
            encryption_key=key,
            logging=codebuild.LoggingOptions(
                cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=log)
            ),
            build_spec=codebuild.BuildSpec.from_object(BUILD),
        )


BUILD = {
    "version": 0.2,
    "env": {"shell": "bash"},
    "phases": {
        "pre_build": {
            "commands": [
                "set -euo pipefail",
                '[[ "$KIND" =~ ^(gpu|neuron|prepare|serve|serve-gpu|serve-neuron)$ ]]'
                ' || { echo "no such KIND: $KIND"; exit 1; }',
                '[[ "$VERSION" != unset && "$VERSION" =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]]'
                ' || { echo "start the build with VERSION"; exit 1; }',
                '[[ "$COMMIT" =~ ^[0-9a-f]{12,40}$ ]]'
                ' || { echo "start the build with COMMIT"; exit 1; }',
                "aws ecr get-login-password"
                ' | docker login --username AWS --password-stdin "$REGISTRY"',
            ]
        },
        # The same command as on a development machine, followed by the push.
        "build": {
            "commands": [
                'IMAGE="$REGISTRY/$REPOSITORY/$KIND:$VERSION-${COMMIT:0:12}" PUSH=1'
                " make --silent image"
            ]
        },
    },
}


def _variables(values: Mapping[str, str]) -> dict[str, codebuild.BuildEnvironmentVariable]:
    return {name: codebuild.BuildEnvironmentVariable(value=value) for name, value in values.items()}
