"""Commands of the model registry: register, models, diff-models, promote, lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("register")(_register)
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
DEFAULT_REGISTRY = Path("model-registry")


def _register(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
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
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """Register the verified model of a run as a version.

    A run is refused without an evaluation, if a gate is not passed, or if the model is
    significantly worse than its base.
    """
    from registry.command import RegisterOptions, register_model

    register_model(RegisterOptions(run, registry, name, version, override))
    return 0


def _models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A model, to list its metrics.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Check every file; build the index again.")
    ] = False,
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """List the registered models and their stages."""
    from registry.command import list_models

    return list_models(registry, name, rebuild=rebuild)


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
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """Change the stage of a registered version.

    A name has one version in production; promoting another archives it.
    """
    from registry.command import promote_model

    return promote_model(registry, model, stage)


def _lineage(model: VersionArgument, registry: RegistryOption = DEFAULT_REGISTRY) -> int:
    """Show what a registered version was made of."""
    from registry.command import print_lineage

    return print_lineage(registry, model)
