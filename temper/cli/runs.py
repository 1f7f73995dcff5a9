"""Commands that take a run: status, adopt, logs, stop, resume, fetch, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from temper.cli.options import (
    RUNS,
    EnvironmentOption,
    RunArgument,
    RunsOption,
    SetOption,
    overrides,
)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("status")(_status)
    app.command("adopt")(_adopt)
    app.command("logs")(_logs)
    app.command("stop")(_stop)
    app.command("resume")(_resume)
    app.command("fetch")(_fetch)
    app.command("delete")(_delete)


PreparationEnvironment = Annotated[
    str, typer.Option("--env", help="RUN is a processing job of this environment.")
]


def _status(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="One run in detail; all runs if omitted.")
    ] = "",
    env: Annotated[str, typer.Option(help="List everyone's runs in this environment.")] = "",
    all_runs: Annotated[bool, typer.Option("--all", help="With --env: of any age.")] = False,
    runs: RunsOption = RUNS,
) -> None:
    """List all runs on all targets, or show one in detail."""
    from launch.commands import show_status, show_team

    if env:
        show_team(run, env, all_runs=all_runs)
    else:
        show_status(run, runs)


def _adopt(run: RunArgument, env: EnvironmentOption = "dev", runs: RunsOption = RUNS) -> None:
    """Manage a run here that was submitted elsewhere.

    Its record is rebuilt from what its target knows; an existing run is never overwritten.
    """
    from launch.commands import adopt_run

    adopt_run(run, env, runs)


def _logs(
    run: RunArgument,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="Print the log so far and exit.")
    ] = False,
    env: PreparationEnvironment = "",
    runs: RunsOption = RUNS,
) -> None:
    """Print the log of a run until it ends."""
    if env:
        from launch.processing.commands import print_processing_log

        print_processing_log(run, env, follow=not no_follow)
        return
    from launch.commands import print_logs

    print_logs(run, runs, follow=not no_follow)


def _stop(run: RunArgument, env: PreparationEnvironment = "", runs: RunsOption = RUNS) -> None:
    """Ask, then make a run save a checkpoint and end."""
    if env:
        from launch.processing.commands import stop_processing_job

        stop_processing_job(run, env)
        return
    from launch.commands import stop_run

    stop_run(run, runs)


def _resume(run: RunArgument, set_: SetOption = None, runs: RunsOption = RUNS) -> None:
    """Resume a stopped run from its last checkpoint."""
    from launch.commands import resume_run

    resume_run(run, runs, overrides(set_))


def _fetch(
    run: RunArgument,
    archive: Annotated[bool, typer.Option("--archive", help="Keep model.tar.gz packed.")] = False,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Download checkpoints too.")
    ] = False,
    runs: RunsOption = RUNS,
) -> None:
    """Download a run's model and report into its run folder."""
    from launch.commands import fetch_run

    fetch_run(run, runs, archive=archive, checkpoints=checkpoints)


def _delete(run: RunArgument, runs: RunsOption = RUNS) -> None:
    """Delete a run, here and on its target, after asking.

    Everything that would be deleted is shown first.
    """
    from launch.commands import delete_run

    delete_run(run, runs)
