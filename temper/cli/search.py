"""Commands that search hyperparameters: search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from temper.cli.extras import require
from temper.cli.options import EnvironmentOption, JobArgument, SetOption, overrides


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("search")(_search)


def _search(
    job: JobArgument,
    set_: SetOption = None,
    out: Annotated[Path, typer.Option(help="Folder of all searches.")] = Path("searches"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: keep no trial.")] = False,
    target: Annotated[
        str, typer.Option(help="Where trials run: local, slurm, hyperpod, sagemaker.")
    ] = "local",
    env: EnvironmentOption = "dev",
) -> int:
    """Search the hyperparameters of a job.

    The job names space, objective and trials in its section search. Rerun the same command to go
    on with a search that was stopped.
    """
    require("train")
    require("search")
    if target != "local":
        require("launch")
    from search.command import run_search

    run_search(job, overrides(set_), home=out, fresh=fresh, target=target, env=env)
    return 0
