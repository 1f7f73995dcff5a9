"""Images and the project that builds them, in an account that moto emulates."""

import json
from typing import Any

from tests.infra.handlers.image_events import ACCOUNT

REPOSITORY = "temper-dev/gpu"
PROJECT = "temper-dev-images"


def put_image(ecr: Any, tag: str) -> str:
    """Push an image whose only layer is named after its tag, and return its digest."""
    # moto derives the digest of an image from those of its layers.
    part = {"size": 2, "digest": f"sha256:{tag.encode().hex():0>64}"}
    docker = "application/vnd.docker"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{docker}.distribution.manifest.v2+json",
        "config": {**part, "mediaType": f"{docker}.container.image.v1+json"},
        "layers": [{**part, "mediaType": f"{docker}.image.rootfs.diff.tar.gzip"}],
    }
    answer = ecr.put_image(
        repositoryName=REPOSITORY, imageManifest=json.dumps(manifest), imageTag=tag
    )
    digest: str = answer["image"]["imageId"]["imageDigest"]
    return digest


def create_build_project(codebuild: Any, bucket: str) -> None:
    """Create the project that builds the source in a bucket."""
    codebuild.create_project(
        name=PROJECT,
        source={"type": "S3", "location": f"{bucket}/source/temper.zip"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_LARGE",
        },
        serviceRole=f"arn:aws:iam::{ACCOUNT}:role/build",
    )
