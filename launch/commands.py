"""The work of the commands that submit jobs and manage runs: `temper train`, `status`, `logs`, …"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from launch.confirm import confirm
from launch.errors import LaunchError
from launch.inspect_run import open_row, open_run, refresh_row, storage
from launch.resolve_run import find_run
from launch.run_index import RunIndex

# Plans, boto3 and the job model are imported inside the functions that need them: together they
# take about a second, and `temper status` must not wait for them.


def submit_job(
    path: Path,
    overrides: str = "",
    *,
    target: str = "sagemaker",
    env: str = "dev",
    image: str = "",
    fresh: bool = False,
    runs: Path = Path("runs"),
) -> None:
    """Plan a job, ask, and submit it to a target; attach to a run that is in progress.

    Args:
        path: The job file.
        overrides: `key=value` pairs for it, separated by spaces.
        target: The name of a target, such as `sagemaker`.
        env: A file of `environments/`; ignored by the target `local`.
        image: The container image to train in; the target's default when empty.
        fresh: Start a new run instead of resuming an unfinished one.
        runs: The folder of run folders.

    Raises:
        TemperError: The job cannot be submitted.
    """
    from launch.submit import SubmitRequest, submit, with_image
    from launch.targets import target_of

    env = "" if target == "local" else env
    place = target_of(target, env)
    wish = SubmitRequest(path, with_image(path, overrides, image), place.name, env, runs, fresh)
    sent = submit(wish, place, say)
    run = sent.record.run
    say(f"run {run}, job {sent.record.latest.name}")
    say(f"make logs RUN={run} follows it; make status shows it; make stop RUN={run} stops it")


def show_status(run: str, runs: Path) -> None:
    """Print all runs in one table, or one in detail if `run` names it.

    Raises:
        LaunchError: A target could not be reached; the table shows the last known states.
    """
    from rich.console import Console

    from launch.render import facts_of, show_run, show_runs

    if run:
        row, problem = refresh_row(runs, find_run(runs, run), closely=True)
        facts = facts_of(runs / row.run)
        if not problem:
            facts |= storage(*open_row(runs, row))
        show_run(row, facts, Console())
    else:
        looked = [refresh_row(runs, row) for row in RunIndex(runs).rows()]
        show_runs((row for row, _ in looked), Console())
        problem = next((problem for _, problem in looked if problem), "")
    if problem:
        raise LaunchError(f"some states are as last seen: {problem}")


def print_logs(run: str, runs: Path, *, follow: bool = True) -> None:
    """Print the log of a run, until it ends if `follow` is set."""
    sent, place = open_run(runs, run)
    for line in place.logs(sent, follow=follow):
        say(line)
    now = place.status(sent)
    say(f"{sent.record.run}: {now.state}{': ' + now.detail if now.detail else ''}")


def stop_run(run: str, runs: Path) -> None:
    """Ask, then tell a run to save a checkpoint and end."""
    sent, place = open_run(runs, run)
    confirm(f"Stop {sent.record.run}?")
    say(place.stop(sent))
    say(f"make resume RUN={sent.record.run} goes on with it")


def resume_run(run: str, runs: Path, overrides: str = "") -> None:
    """Resume a stopped or failed run from its last checkpoint.

    Raises:
        LaunchError: The run has finished, or the target refuses it.
    """
    from launch.submit import SubmitRequest, submit

    sent, place = open_run(runs, run)
    record = sent.record
    now = place.status(sent)
    if now.state in ("not deployed", "deploying", "deployed"):
        raise LaunchError(f"{record.run} has finished training: nothing is left to go on with")
    if record.target == "local":
        from launch.targets import local

        local.resume_run(sent, overrides)
        return
    going = SubmitRequest(
        job=sent.folder / "job.yaml",
        overrides=overrides,
        target=record.target,
        environment=record.environment,
        runs=runs,
        run=record.run,
    )
    sent = submit(going, place, say)
    say(f"run {sent.record.run}, job {sent.record.latest.name}")


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
    sent, place = open_run(runs, run)
    brought = place.fetch(sent, archive=archive, checkpoints=checkpoints)
    if not brought:
        state = place.status(sent).state
        raise LaunchError(f"{sent.record.run} has nothing to fetch yet: it is {state}")
    for path in sorted(brought)[:20]:
        say(str(path))
    if len(brought) > 20:
        say(f"and {len(brought) - 20} more in {sent.folder}")


def delete_run(run: str, runs: Path) -> None:
    """Ask, listing what would be deleted, then delete a run here and on its target.

    Raises:
        LaunchError: The run is in progress, or something could not be deleted.
    """
    sent, place = open_run(runs, run)
    now = place.status(sent)
    if now.state in ("training", "stopping", "deploying", "deployed"):
        raise LaunchError(f"{sent.record.run} is {now.state}. Stop it first: make stop RUN={run}")
    there = place.belongings(sent)
    here = sum(p.stat().st_size for p in sent.folder.rglob("*") if p.is_file())
    say(f"{sent.folder} ({here / 2**20:.1f} MiB)")
    for name, size in there:
        say(f"{name} ({size / 2**20:.1f} MiB)")
    confirm(f"Delete all of this for good, the model of {sent.record.run} included?")
    kept = place.delete(sent)
    shutil.rmtree(sent.folder)
    _mend_latest(sent.folder.parent)
    if kept:
        raise LaunchError("deleted, except: " + "; ".join(kept))
    say(f"{sent.record.run} is gone")


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
