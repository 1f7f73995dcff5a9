"""Runs of everyone on a Slurm cluster, read by one script on the login node."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from launch.errors import LaunchError
from launch.remote_runs import RemoteRun, RunListing, is_job_name, is_run_name
from launch.slurm.queue import ASK_QUEUE
from launch.slurm.report import parse_report, read_report
from launch.slurm.script import LOG, STOP
from launch.slurm.shell import Shell, run_script
from launch.submission import FILE as RECORD
from launch.submission import Attempt, TargetName, parse_submission

_BEGIN = "run "


def list_cluster_runs(
    shell: Shell, root: PurePosixPath, target: TargetName, days: int | None
) -> RunListing:
    """Return the runs whose folders are on a cluster.

    Args:
        shell: Shell of a node that has the shared file system and squeue.
        root: Folder that every node shares.
        target: Name of the target.
        days: Age of the oldest run folder in days; None for all.

    Raises:
        LaunchError: The queue could not be asked, or the shared folder is missing.
    """
    output = run_script(shell, _script(root, days))
    runs, unreadable = [], []
    for block in _blocks(output):
        name, report = block[0].removeprefix(_BEGIN), parse_report(block[1:])
        if not is_run_name(name):
            unreadable.append(f"{root}/runs/{name}: its path names no run")
            continue
        try:
            runs.append(_remote_run(name, report, root, target))
        except LaunchError as error:
            unreadable.append(f"{name}: {error}")
    return RunListing(tuple(sorted(runs, key=lambda run: run.created)), tuple(unreadable))


def _script(root: PurePosixPath, days: int | None) -> str:
    absent = shlex.quote(
        f"{root} does not exist: is the shared file system mounted? Another folder is named by "
        "SLURM_ROOT=…"
    )
    age = f"-mtime -{days}" if days is not None else ""
    return f"""
        {ASK_QUEUE}
        cd {shlex.quote(str(root))} 2>/dev/null || {{ echo {absent} >&2; exit 1; }}
        [ -d runs ] || exit 0
        cd runs
        queue=$(ask_queue -o '%j %T|%r|%N') || exit 1
        find . -mindepth 2 -maxdepth 2 -type d {age} -printf '%P\\n' | sort | while read -r run; do
            echo "run $run"
            echo "owner $(stat -c %U "$run")"
            echo "created $(date -u -d "@$(stat -c %Y "$run")" +%FT%TZ)"
            [ -r "$run/{RECORD}" ] && echo "record $(tr -d '\\n' < "$run/{RECORD}")"
            id=$(ls -t "$run"/*.id 2>/dev/null | head -n 1)
            if [ -n "$id" ]; then
                name=$(basename "$id" .id)
                echo "name $name"
                echo "id $(head -n 1 "$id")"
                entry=$(grep -F -- "$name " <<< "$queue" | head -n 1)
                [ -n "$entry" ] && echo "queue ${{entry#* }}"
            fi
            [ -e "$run/{STOP}" ] && echo "stop 1"
            [ -r "$run/status.json" ] && echo "status $(tr -d '\\n' < "$run/status.json")"
            metrics=$(ls -t "$run"/{{,stages/*/}}metrics.jsonl 2>/dev/null | head -n 1)
            [ -n "$metrics" ] && echo "metrics $(grep '"loss"' "$metrics" | tail -n 1)"
            error=$(grep -s '^error: ' "$run/logs/{LOG}" | tail -n 1 | cut -c 8-)
            [ -n "$error" ] && echo "error $error"
        done
        exit 0
        """


def _blocks(output: str) -> list[list[str]]:
    """Return the lines about each run; a line that begins a run begins its block."""
    blocks: list[list[str]] = []
    for line in output.splitlines():
        if line.startswith(_BEGIN):
            blocks.append([line])
        elif blocks:
            blocks[-1].append(line)
    return blocks


def _remote_run(
    run: str, report: Mapping[str, Any], root: PurePosixPath, target: TargetName
) -> RemoteRun:
    """Return a run from its record on the cluster, or from its files if it has none.

    Raises:
        LaunchError: Its record is damaged.
    """
    folder = root / "runs" / run
    status = read_report(report, folder / "logs" / LOG)
    handle = str(report.get("id", "")).partition(";")[0]
    if "record" not in report:
        # Submitted by a version that left no record: the files of the queue are all there is.
        attempts = _checked((Attempt(str(report.get("name", "")), handle),), folder)
        owner, created = str(report.get("owner", "")), str(report.get("created", ""))
        return RemoteRun(run, target, "", owner, created, attempts, status)
    try:
        document = json.loads(str(report["record"]))
    except ValueError as error:
        raise LaunchError(f"{folder / RECORD} is not JSON: {error}") from None
    submission = parse_submission(Path(), document, str(folder / RECORD))
    *earlier, latest = _checked(submission.attempts, folder)
    attempts = (*earlier, Attempt(latest.name, handle, latest.requested_at))
    return RemoteRun(
        run,
        target,
        str(submission.environment),
        str(submission.creator),
        str(submission.created),
        attempts,
        status,
    )


def _checked(attempts: tuple[Attempt, ...], folder: PurePosixPath) -> tuple[Attempt, ...]:
    """Return the attempts of a record that another person wrote, if their names are names.

    Raises:
        LaunchError: There is none, or a name could not be part of a script.
    """
    names = [attempt.name for attempt in attempts]
    if bad := [name for name in names or [""] if not is_job_name(name)]:
        raise LaunchError(f"{folder} names no job that was queued (got {bad[0]!r})")
    return attempts
