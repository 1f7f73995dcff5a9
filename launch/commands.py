"""The work of the commands that submit jobs and manage runs: `temper train`, `status`, `logs`."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from launch.confirm import confirm
from launch.errors import LaunchError
from launch.inspect_run import open_row, open_run, refresh_row, storage_facts
from launch.processing.states import PreparationState, local_preparations
from launch.resolve_run import resolve_run
from launch.run_index import RunIndex
from launch.status import state_name
from training.console import say
from training.run_folder import RunFolder

if TYPE_CHECKING:
    from launch.submission import Submission
    from launch.targets.base import Target

# Plans, boto3 and the job model are imported inside the functions that need them: together they
# take about a second, and `temper status` must not wait for them.


@dataclass(frozen=True)
class SubmitOptions:
    """Options of a submission.

    Attributes:
        target: Name of a target, such as `sagemaker`.
        env: A file of `environments/`; ignored by the target `local`.
        image: Container image to train in; the target's default if empty.
        fresh: Start a new run instead of resuming an unfinished one.
        accept_eula: Whether the user accepts the license of the model.
    """

    target: str = "sagemaker"
    env: str = "dev"
    image: str = ""
    fresh: bool = False
    accept_eula: bool = False


def submit_job(
    path: Path, overrides: str, options: SubmitOptions, runs: Path = Path("runs")
) -> None:
    """Plan a job, ask, and submit it to a target; attach to a run that is in progress.

    Args:
        path: The job file.
        overrides: `key=value` pairs for it, separated by spaces.
        options: Where and how it is submitted.
        runs: The folder of run folders.

    Raises:
        TemperError: The job cannot be submitted.
    """
    from launch.submit import SubmitRequest, submit, with_image
    from launch.targets import make_target

    env = "" if options.target == "local" else options.env
    chosen = make_target(options.target, env)
    request = SubmitRequest(
        path,
        with_image(path, overrides, options.image),
        chosen.name,
        env,
        runs,
        options.fresh,
        accept_eula=options.accept_eula,
    )
    submission = submit(request, chosen, say)
    run = submission.run
    say(f"run {run}, job {submission.latest.name}")
    say(f"temper logs {run} follows it; temper status shows it; temper stop {run} stops it")


def show_team(run: str, environment: str, *, all_runs: bool = False) -> None:
    """Print the runs of everyone in an environment, or one of them if `run` names it.

    Args:
        run: The name of a run; empty for all of them.
        environment: A file of `environments/`.
        all_runs: List runs of any age.

    Raises:
        LaunchError: No run has this name, or a target could not be asked; the table shows the
            runs of the others.
    """
    from rich.console import Console

    from launch.aws.session import AwsSession
    from launch.processing.progress import processing_jobs
    from launch.remote_runs import RECENT_DAYS
    from launch.render import show_run, show_runs
    from launch.team import TeamRuns

    team = TeamRuns(environment)
    team.read(None if all_runs or run else RECENT_DAYS)
    if run:
        show_run(team.find(run)[0].row(), {}, Console())
        return
    rows = [remote.row() for remote in team.runs]
    older = "" if all_runs else f" in the last {RECENT_DAYS} days (--all lists older ones)"
    nothing = f"No runs in the environment {environment}{older}."
    show_runs(rows, Console(), creators=True, nothing=nothing)
    account = AwsSession(team.environment)
    days = None if all_runs else RECENT_DAYS
    prefix = team.environment.prefix
    _say_preparations(processing_jobs(account.client("sagemaker"), prefix, days))
    if rows and not all_runs:
        say(f"Runs{older}. temper adopt RUN --env {environment} makes one manageable here")
    if team.unreadable:
        raise LaunchError("not shown: " + "\n".join(team.unreadable))


def _say_preparations(states: list[PreparationState]) -> None:
    if states:
        say("\nPreparations of data")
    for state in states:
        say(state.line())


def adopt_run(run: str, environment: str, runs: Path) -> None:
    """Rebuild the record of a run that was submitted elsewhere, and print what is missing in it.

    Args:
        run: The name of the run.
        environment: A file of `environments/`.
        runs: The folder of run folders.

    Raises:
        LaunchError: No run has this name, or this machine has it already.
    """
    from launch.adopt import adopt
    from launch.team import TeamRuns

    team = TeamRuns(environment)
    team.read(None)
    remote, target = team.find(run)
    submission, missing = adopt(remote, target, runs)
    creator = f", submitted by {remote.creator}" if remote.creator else ""
    state = state_name(remote.status.state, remote.target)
    say(f"adopted {remote.run}: {state} on {remote.target}{creator}")
    for line in missing:
        say(f"  {line}")
    say(f"temper status, logs, stop, resume, fetch and delete now take {submission.run}")


def show_status(run: str, runs: Path) -> None:
    """Print all runs in one table, or one in detail if `run` names it.

    Raises:
        LaunchError: A target could not be reached; the table shows the last known states.
    """
    from rich.console import Console

    from launch.render import run_facts, show_run, show_runs

    if run:
        row, problem = refresh_row(runs, resolve_run(runs, run), check_deployment=True)
        facts = run_facts(runs / row.run)
        if not problem:
            facts |= storage_facts(*open_row(runs, row))
        show_run(row, facts, Console())
    else:
        refreshed = [refresh_row(runs, row) for row in RunIndex(runs).rows()]
        show_runs((row for row, _ in refreshed), Console())
        _say_preparations(local_preparations())
        problem = next((problem for _, problem in refreshed if problem), "")
    if problem:
        raise LaunchError(f"some states are as last seen: {problem}")


def print_logs(run: str, runs: Path, *, follow: bool = True) -> None:
    """Print the log of a run, then its state.

    Args:
        run: The name of the run.
        runs: The folder of run folders.
        follow: Keep printing until the run ends.
    """
    submission, target = open_run(runs, run)
    for line in target.logs(submission, follow=follow):
        say(line)
    now = target.status(submission)
    state = state_name(now.state, submission.target)
    say(f"{submission.run}: {state}{': ' + now.detail if now.detail else ''}")


def stop_run(run: str, runs: Path) -> None:
    """Ask, then tell a run to save a checkpoint and end."""
    submission, target = open_run(runs, run)
    now = target.status(submission)
    if now.is_over:
        state = state_name(now.state, submission.target)
        say(f"{submission.run} is {state}: nothing is running")
        return
    confirm(f"Stop {submission.run}{_of_another_person(submission)}?")
    say(target.stop(submission))
    say(f"temper resume {submission.run} resumes it")


def resume_run(run: str, runs: Path, overrides: str = "") -> None:
    """Resume a stopped or failed run from its last checkpoint.

    Args:
        run: The name of the run.
        runs: The folder of run folders.
        overrides: `key=value` pairs for its job, separated by spaces.

    Raises:
        LaunchError: The run has finished, or the target refuses it.
    """
    from launch.submit import SubmitRequest, submit

    submission, target = open_run(runs, run)
    now = target.status(submission)
    if now.state in ("not deployed", "deploying", "deployed"):
        raise LaunchError(f"{submission.run} has finished training: nothing is left to resume")
    if submission.target == "local":
        from launch.targets import local

        local.resume_run(submission, overrides)
        return
    if submission.adopted:
        _restart_adopted(submission, target, overrides)
        return
    request = SubmitRequest(
        job=submission.folder / "job.yaml",
        overrides=overrides,
        target=submission.target,
        environment=submission.environment,
        runs=runs,
        run=submission.run,
    )
    submission = submit(request, target, say)
    say(f"run {submission.run}, job {submission.latest.name}")


def _restart_adopted(submission: Submission, target: Target, overrides: str) -> None:
    """Ask, then submit the job of an adopted run again, which resumes from its checkpoint.

    Raises:
        LaunchError: The run is in progress, or overrides are given.
    """
    from launch.targets.base import SharedTarget

    if overrides:
        raise LaunchError(
            f"--set {overrides}: {submission.run} was adopted, so the job that was sent is sent "
            "again unchanged. Leave --set out, or ask the person who submitted it"
        )
    state = target.status(submission).state
    if state in ("training", "stopping"):
        say(f"{submission.run} is {state} already: {submission.latest.name}")
        return
    shared = cast(SharedTarget, target)
    quote = shared.quote_restart(submission)
    for line in quote.lines:
        say(line)
    if quote.question:
        confirm(quote.question)
    again = submission.with_new_attempt(target.job_prefix)
    again.write()
    try:
        again = shared.restart(again)
    except LaunchError:
        # The record is kept only if the target has the job, or cannot be asked.
        with suppress(LaunchError):
            if target.status(again).state == "planned":
                submission.write()
        raise
    say(f"run {again.run}, job {again.latest.name}")


def _of_another_person(submission: Submission) -> str:
    """Return a clause that names the creator of a run, if that is another person."""
    from launch.aws.tags import tag_value
    from launch.submission import current_user

    creator, user = submission.creator, current_user()
    # The creator of an adopted run was read from a tag, which cannot have every character.
    same = creator in ("", user, tag_value(user))
    return "" if same else f", submitted by {creator},"


def fetch_run(run: str, runs: Path, *, archive: bool = False, checkpoints: bool = False) -> None:
    """Download a run's model and report into its folder.

    Args:
        run: The name of the run.
        runs: The folder of run folders.
        archive: Keep `model.tar.gz` packed.
        checkpoints: Download checkpoints too.

    Raises:
        LaunchError: The run has nothing to download yet.
    """
    submission, target = open_run(runs, run)
    paths = target.fetch(submission, archive=archive, checkpoints=checkpoints)
    if not paths:
        state = state_name(target.status(submission).state, submission.target)
        raise LaunchError(f"{submission.run} has nothing to fetch yet: it is {state}")
    if target.status(submission).state in ("not deployed", "deploying", "deployed"):
        # Commands that read the folder of a finished run, such as `temper register`, ask no target.
        RunFolder(submission.folder).set_state("finished")
    for path in sorted(paths)[:20]:
        say(str(path))
    if len(paths) > 20:
        say(f"and {len(paths) - 20} more in {submission.folder}")


def delete_run(run: str, runs: Path) -> None:
    """Ask, listing what would be deleted, then delete a run here and on its target.

    Raises:
        LaunchError: The run is in progress, or something could not be deleted.
    """
    submission, target = open_run(runs, run)
    now = target.status(submission)
    if now.state in ("training", "stopping", "deploying", "deployed"):
        raise LaunchError(f"{submission.run} is {now.state}. Stop it first: temper stop {run}")
    remote = target.remote_storage(submission)
    local_bytes = sum(p.stat().st_size for p in submission.folder.rglob("*") if p.is_file())
    say(f"{submission.folder} ({local_bytes / 2**20:.1f} MiB)")
    for name, size in remote:
        say(f"{name} ({size / 2**20:.1f} MiB)")
    whose = _of_another_person(submission)
    confirm(f"Delete all of this for good, the model of {submission.run}{whose} included?")
    remaining = target.delete(submission)
    shutil.rmtree(submission.folder)
    _repair_latest(submission.folder.parent)
    if remaining:
        raise LaunchError("deleted, except: " + "; ".join(remaining))
    say(f"{submission.run} is deleted")


def _repair_latest(folder: Path) -> None:
    """Point `latest` at the newest remaining run; remove the job's folder if none remains."""
    link = folder / "latest"
    if link.is_symlink() and not link.exists():
        link.unlink()
        remaining = sorted(
            p for p in folder.iterdir() if p.is_dir() and (p / "status.json").exists()
        )
        if remaining:
            link.symlink_to(remaining[-1].name)
    if not any(folder.iterdir()):
        folder.rmdir()
