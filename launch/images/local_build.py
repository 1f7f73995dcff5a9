"""Build of an image on this machine, by docker, podman or buildah, and its push."""

from __future__ import annotations

import base64
import os
import subprocess
from typing import Any

from launch.aws.session import explain_aws_errors
from launch.errors import LaunchError
from launch.images.source import ImageSource


def build_and_push(kind: str, source: ImageSource, repository_uri: str, ecr: Any) -> None:
    """Build an image with `containers/build.sh`, and push it.

    Args:
        kind: Kind of image.
        source: Checkout to build.
        repository_uri: Address of the repository.
        ecr: boto3 client of `ecr`.

    Raises:
        LaunchError: No program builds images here, or the login, the build or the push failed.
    """
    engine = _engine(source)
    with explain_aws_errors("signing in to the registry"):
        grant = ecr.get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(grant["authorizationToken"]).decode().partition(":")
    registry = repository_uri.partition("/")[0]
    login = subprocess.run(
        [engine, "login", "--username", user, "--password-stdin", registry],
        input=password,
        capture_output=True,
        text=True,
        check=False,
    )
    if login.returncode:
        raise LaunchError(f"{engine} login {registry} failed: {login.stderr.strip()}")
    variables = {
        "KIND": kind,
        "ENGINE": engine,
        "VERSION": source.version,
        "COMMIT": source.commit,
        "IMAGE": f"{repository_uri}:{source.tag}",
        "PUSH": "1",
    }
    done = subprocess.run(
        ["bash", "containers/build.sh"],
        cwd=source.root,
        env={**os.environ, **variables},
        check=False,
    )
    if done.returncode:
        raise LaunchError(
            f"containers/build.sh ended with {done.returncode}; its output is above. Pushing needs "
            f"ecr:PutImage on {repository_uri.partition('/')[2]}, which the engineer role does not "
            "have: leave --local out to build in AWS"
        )


def _engine(source: ImageSource) -> str:
    chosen = os.environ.get("ENGINE", "")
    if chosen:
        return chosen
    done = subprocess.run(
        ["bash", "containers/engine.sh"],
        cwd=source.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LaunchError(f"{done.stderr.strip()}; or leave --local out to build in AWS")
    return done.stdout.strip()
