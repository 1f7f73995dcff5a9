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
    join: Annotated[
        bool, typer.Option("--join", help="Run trials of a search that runs elsewhere.")
    ] = False,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time here; search.parallel if not set.")
    ] = None,
) -> int:
    """Search the hyperparameters of a job.

    The job names space, objective and trials in its section search. Rerun the same command to go
    on with a search that was stopped.
    """
    require("train")
    require("search")
    if target != "local":
        require("launch")
    from search.command import join_search, run_search

    if join:
        _refuse_to_join(target, fresh=fresh)
        join_search(job, overrides(set_), home=out, slots=slots)
        return 0
    run_search(
        job,
        overrides(set_),
        home=out,
        fresh=fresh,
        target=target,
        env=env,
        slots=slots,
    )
    return 0


def _refuse_to_join(target: str, *, fresh: bool) -> None:
    """Raise if an option does not go with `--join`.

    Raises:
        InvalidOptionError: It does not.
    """
    from launch.errors import InvalidOptionError

    if fresh or target != "local":
        raise InvalidOptionError(
            "--join continues trials on this machine: leave --fresh and --target out"
        )
