"""Commands of the model registry: register, push-model, models, diff-models, promote, lineage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temper.cli.options import RunArgument, run_folder

if TYPE_CHECKING:
    from registry.remote.base import RemoteRegistry


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("register")(_register)
    app.command("push-model")(_push_model)
    app.command("models")(_models)
    app.command("diff-models")(_diff_models)
    app.command("promote")(_promote)
    app.command("lineage")(_lineage)


RegistryOption = Annotated[
    Path,
    typer.Option("--registry", envvar="TEMPER_REGISTRY", help="The folder of the registry."),
]
VersionArgument = Annotated[
    str, typer.Argument(metavar="NAME@VERSION", help="A version; the newest without @VERSION.")
]
RemoteOption = Annotated[
    str | None,
    typer.Option("--to", metavar="KIND", help="Also in a remote registry: sagemaker or mlflow."),
]
EnvironmentOption = Annotated[
    str | None, typer.Option("--env", help="The environment of the remote registry.")
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", metavar="URI", help="MLflow server; MLFLOW_TRACKING_URI's if omitted."
    ),
]
DEFAULT_REGISTRY = Path("model-registry")


def _register(
    run: RunArgument,
    name: Annotated[str | None, typer.Option(help="Name of the model; the job's if omitted.")] = (
        None
    ),
    version: Annotated[
        str | None, typer.Option(help="MAJOR.MINOR.PATCH; the next one if omitted.")
    ] = None,
    override: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Register without an evaluation, or despite its result; the reason is recorded.",
        ),
    ] = None,
    to: RemoteOption = None,
    env: EnvironmentOption = None,
    tracking_uri: TrackingOption = None,
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """Register the verified model of a run as a version.

    A run is refused without an evaluation, if a gate is not passed, or if the model is
    significantly worse than its base. With --to, the version is also pushed.
    """
    from registry.command import RegisterOptions, register_model
    from registry.remote.command import push_model

    # First: a registry that cannot be reached leaves nothing behind.
    remote = _remote(to, env, tracking_uri)
    record = register_model(RegisterOptions(run_folder(run), registry, name, version, override))
    if remote is not None:
        push_model(registry, record.id, remote)
    return 0


def _remote(kind: str | None, environment: str | None, uri: str | None) -> RemoteRegistry | None:
    """Return the remote registry that the options name; an environment alone means SageMaker's.

    Args:
        kind: Value of `--to`.
        environment: Value of `--env`.
        uri: Value of `--tracking-uri`, which means MLflow's.
    """
    if kind is None and environment is None and uri is None:
        return None
    from registry.remote.connect import connect_remote

    return connect_remote(kind or ("mlflow" if uri else "sagemaker"), environment, uri)


def _push_model(
    model: VersionArgument,
    to: RemoteOption = None,
    env: EnvironmentOption = None,
    tracking_uri: TrackingOption = None,
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """Copy a registered version to a remote registry.

    Its files go along. Pushing it again changes nothing.
    """
    from registry.remote.command import push_model

    remote = _remote(to if to or tracking_uri else "sagemaker", env, tracking_uri)
    assert remote is not None
    push_model(registry, model, remote)
    return 0


def _models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A model, to list its metrics.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Check every file; build the index again.")
    ] = False,
    to: RemoteOption = None,
    env: EnvironmentOption = None,
    tracking_uri: TrackingOption = None,
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """List the registered models and their stages.

    With --to or --env, the stages in the remote registry are made to agree: the latest change wins.
    """
    from registry.command import list_models
    from registry.remote.command import list_both

    remote = _remote(to, env, tracking_uri)
    if rebuild or remote is None:
        list_models(registry, name, rebuild=rebuild)
    return 0 if remote is None else list_both(registry, name, remote)


def _diff_models(
    first: VersionArgument, second: VersionArgument, registry: RegistryOption = DEFAULT_REGISTRY
) -> int:
    """Compare two registered versions.

    Data, hyper-parameters, metrics with intervals and cost.
    """
    from registry.command import diff_models

    return diff_models(registry, first, second)


def _promote(
    model: VersionArgument,
    stage: Annotated[
        str,
        typer.Argument(metavar="STAGE", help="none, candidate, staging, production or archived."),
    ],
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    to: RemoteOption = None,
    env: EnvironmentOption = None,
    tracking_uri: TrackingOption = None,
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """Change the stage of a registered version.

    A name has one version in production; promoting another archives it.
    """
    from registry.command import promote_model

    return promote_model(registry, model, stage, reason, _remote(to, env, tracking_uri))


def _lineage(model: VersionArgument, registry: RegistryOption = DEFAULT_REGISTRY) -> int:
    """Show what a registered version was made of."""
    from registry.command import print_lineage

    return print_lineage(registry, model)
