"""Commands about container images: publish-image, approve-image."""

from __future__ import annotations

from typing import Annotated

import typer

from temper.cli.options import EnvironmentOption

_Kind = Annotated[
    str,
    typer.Argument(metavar="KIND", help="gpu, neuron, prepare, serve, serve-gpu, serve-neuron."),
]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("publish-image")(_publish_image)
    app.command("approve-image")(_approve_image)


def _publish_image(
    kind: _Kind,
    env: EnvironmentOption = "dev",
    version: Annotated[
        str, typer.Option(help="Version, the first part of the tag; the project's if omitted.")
    ] = "",
    local: Annotated[
        bool, typer.Option("--local", help="Build here, with docker, podman or buildah.")
    ] = False,
) -> int:
    """Build the image of this commit and follow it to use.

    The build runs in AWS, after a confirmation of its cost. The same command continues where an
    earlier one stopped: it attaches to a build in progress, and never builds a commit twice.
    """
    from launch.images.publish import publish_image

    publish_image(kind, env=env, version=version, local=local)
    return 0


def _approve_image(
    kind: _Kind,
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="Digest or tag; the newest if omitted.")
    ] = "",
    env: EnvironmentOption = "dev",
) -> int:
    """Approve an image for the jobs of an environment.

    Needs the image approver role. Who built an image cannot approve it.
    """
    from launch.images.publish import approve_image

    approve_image(kind, image, env=env)
    return 0
