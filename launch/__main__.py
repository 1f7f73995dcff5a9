"""Send jobs and look after them: `python -m launch COMMAND`, behind the make targets so named.

Exit codes: 0 done, 2 the job or a question not agreed to, 4 the target.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from launch.confirm import confirm
from launch.errors import LaunchError
from launch.inspect_run import open_row, open_run, refresh_row, storage_facts
from launch.resolve_run import resolve_run
from launch.run_index import RunIndex
from training.errors import TemperError

# Imported where they are needed: a plan, an account and a job's own checks take their time, and
# `make status` must not wait for them.

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

RunsOption = Annotated[Path, typer.Option("--runs", help="where run folders are")]
RunArgument = Annotated[str, typer.Argument(help="NAME, NAME/ID, a job's name, or a path")]
RUNS = Path("runs")


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """Print an error of ours as a message, and end with its code."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except TemperError as error:
            sys.stderr.write(f"{error}\n")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return run


@app.command()
@explained
def train(
    job: Path,
    target: Annotated[str, typer.Option(help="sagemaker or hyperpod")] = "sagemaker",
    env: Annotated[str, typer.Option(help="a file of environments/")] = "dev",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
    image: Annotated[str, typer.Option(help="container image to train in")] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="start over")] = False,
    runs: RunsOption = RUNS,
) -> None:
    """Plan a job, ask, and send it to a target; attach to it where it runs already."""
    from launch.submit import SubmitRequest, submit, with_image
    from launch.targets import make_target

    env = "" if target == "local" else env
    chosen = make_target(target, env)
    overrides = with_image(job, " ".join(set_ or ()), image)
    request = SubmitRequest(job, overrides, chosen.name, env, runs, fresh)
    submission = submit(request, chosen, say)
    run = submission.run
    say(f"run {run}, job {submission.latest.name}")
    say(f"make logs RUN={run} follows it; make status shows it; make stop RUN={run} stops it")


@app.command()
@explained
def status(
    run: Annotated[str, typer.Argument(help="one run in detail; all when left out")] = "",
    runs: RunsOption = RUNS,
) -> None:
    """Show all runs in one table, or one in detail."""
    from rich.console import Console

    from launch.render import facts_of, show_run, show_runs

    if run:
        row, problem = refresh_row(runs, resolve_run(runs, run), check_deployment=True)
        facts = facts_of(runs / row.run)
        if not problem:
            facts |= storage_facts(*open_row(runs, row))
        show_run(row, facts, Console())
    else:
        looked = [refresh_row(runs, row) for row in RunIndex(runs).rows()]
        show_runs((row for row, _ in looked), Console())
        problem = next((problem for _, problem in looked if problem), "")
    if problem:
        raise LaunchError(f"some states are as last seen: {problem}")


@app.command()
@explained
def logs(
    run: RunArgument,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="end with what is there")] = False,
    runs: RunsOption = RUNS,
) -> None:
    """Print what a run prints, until it is over."""
    submission, target = open_run(runs, run)
    for line in target.logs(submission, follow=not no_follow):
        say(line)
    now = target.status(submission)
    say(f"{submission.run}: {now.state}{': ' + now.detail if now.detail else ''}")


@app.command()
@explained
def stop(run: RunArgument, runs: RunsOption = RUNS) -> None:
    """Ask, then tell a run to save a checkpoint and end."""
    submission, target = open_run(runs, run)
    confirm(f"Stop {submission.run}?")
    say(target.stop(submission))
    say(f"make resume RUN={submission.run} goes on with it")


@app.command()
@explained
def resume(
    run: RunArgument,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
    runs: RunsOption = RUNS,
) -> None:
    """Go on with a run that was stopped or failed, from its last checkpoint."""
    from launch.submit import SubmitRequest, submit

    submission, target = open_run(runs, run)
    now = target.status(submission)
    if now.state in ("not deployed", "deploying", "deployed"):
        raise LaunchError(f"{submission.run} has finished training: nothing is left to resume")
    if submission.target == "local":
        from launch.targets.local import resume_run

        resume_run(submission, " ".join(set_ or ()))
        return
    request = SubmitRequest(
        job=submission.folder / "job.yaml",
        overrides=" ".join(set_ or ()),
        target=submission.target,
        environment=submission.environment,
        runs=runs,
        run=submission.run,
    )
    submission = submit(request, target, say)
    say(f"run {submission.run}, job {submission.latest.name}")


@app.command()
@explained
def fetch(
    run: RunArgument,
    archive: Annotated[bool, typer.Option("--archive", help="keep model.tar.gz packed")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="those too")] = False,
    runs: RunsOption = RUNS,
) -> None:
    """Bring a run's model and report into its folder."""
    submission, target = open_run(runs, run)
    brought = target.fetch(submission, archive=archive, checkpoints=checkpoints)
    if not brought:
        state = target.status(submission).state
        raise LaunchError(f"{submission.run} has nothing to fetch yet: it is {state}")
    for path in sorted(brought)[:20]:
        say(str(path))
    if len(brought) > 20:
        say(f"and {len(brought) - 20} more in {submission.folder}")


@app.command()
@explained
def delete(run: RunArgument, runs: RunsOption = RUNS) -> None:
    """Ask, saying what goes, then delete a run here and on its target."""
    submission, target = open_run(runs, run)
    now = target.status(submission)
    if now.state in ("training", "stopping", "deploying", "deployed"):
        raise LaunchError(f"{submission.run} is {now.state}. Stop it first: make stop RUN={run}")
    there = target.remote_storage(submission)
    here = sum(p.stat().st_size for p in submission.folder.rglob("*") if p.is_file())
    say(f"{submission.folder} ({here / 2**20:.1f} MiB)")
    for name, size in there:
        say(f"{name} ({size / 2**20:.1f} MiB)")
    confirm(f"Delete all of this for good, the model of {submission.run} included?")
    kept = target.delete(submission)
    shutil.rmtree(submission.folder)
    _mend_latest(submission.folder.parent)
    if kept:
        raise LaunchError("deleted, except: " + "; ".join(kept))
    say(f"{submission.run} is gone")


def say(line: str) -> None:
    """Print a line for a person."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _mend_latest(home: Path) -> None:
    """Let `latest` point at the newest run that is left, and no empty folder stay."""
    link = home / "latest"
    if link.is_symlink() and not link.exists():
        link.unlink()
        left = sorted(p for p in home.iterdir() if p.is_dir() and (p / "status.json").exists())
        if left:
            link.symlink_to(left[-1].name)
    if not any(home.iterdir()):
        home.rmdir()


if __name__ == "__main__":
    app()
