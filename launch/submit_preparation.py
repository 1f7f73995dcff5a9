"""Submission of a preparation of data to Slurm: one job whose nodes share the preparation.

The job runs in the working directory of the submission, on a file system that all nodes share, so
that it reads and writes the paths of the job file as this machine does. Its record is that of a
run: `temper status`, `logs`, `stop` and `resume` find it.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from launch.errors import InvalidOptionError, LaunchError
from launch.slurm.script import LOG, SAVE_S, STOP
from launch.slurm.shell import LocalShell, write_file
from launch.submission import (
    Attempt,
    Submission,
    attempt_name,
    current_user,
    new_run_id,
    now,
    read_submission,
)
from launch.targets.slurm import SlurmTarget
from training.run_folder import write_whole

_JOB = "job.yaml"


@dataclass(frozen=True)
class PreparationRequest:
    """Request of a user to run a preparation on a cluster.

    Attributes:
        name: Name of the job.
        document: Job file as resolved.
        nodes: Number of nodes.
        runs: Folder of all run folders.
    """

    name: str
    document: str
    nodes: int = 1
    runs: Path = Path("runs")


def submit_preparation(request: PreparationRequest, target: SlurmTarget) -> tuple[Submission, bool]:
    """Queue the job of a preparation, or find the one that is in the queue already.

    Args:
        request: The preparation.
        target: The cluster.

    Returns:
        The record, and whether the job was queued by this call.

    Raises:
        InvalidOptionError: The number of nodes is not positive, or the cluster is a remote one.
        LaunchError: Another preparation of this name is running, or nothing could be queued.
    """
    if request.nodes < 1:
        raise InvalidOptionError(f"--nodes {request.nodes}: at least one node is needed")
    if not isinstance(target.shell, LocalShell):
        raise InvalidOptionError(
            f"SLURM_LOGIN={target.shell.label}: a preparation is submitted on a machine that "
            "shares its files with the nodes. Run the command on the login node, with SLURM_LOGIN "
            "unset"
        )
    submission = _find_unfinished(request, target)
    if submission is not None and target.status(submission).state != "planned":
        return submission, False
    submission = submission or _create(request)
    folder = target.jobs.run_folder(submission)
    write_file(target.shell, folder / "sent.yaml", request.document)
    script = _batch_script(submission.latest.name, folder, request.nodes, target)
    return target.jobs.submit(submission, script), True


def _find_unfinished(request: PreparationRequest, target: SlurmTarget) -> Submission | None:
    """Return the preparation of this name that waits or runs; its nodes take no lock.

    Raises:
        LaunchError: It is one of other settings, which could write the same files.
    """
    for folder in sorted((request.runs / request.name).glob("*"), reverse=True):
        submission = None if folder.is_symlink() else read_submission(folder)
        if submission is None or submission.target != "slurm":
            continue
        if target.status(submission).state not in ("planned", "training", "stopping"):
            continue
        if (folder / _JOB).read_text(encoding="utf-8") == request.document:
            return submission
        raise LaunchError(
            f"{submission.run} is a preparation of the same name and other settings, and has not "
            f"ended. Wait for it, or stop it: temper stop {submission.run}"
        )
    return None


def _create(request: PreparationRequest) -> Submission:
    """Write the record of a preparation, before anything is queued.

    Raises:
        LaunchError: The folder cannot be written.
    """
    run = f"{request.name}/{new_run_id()}"
    submission = Submission(
        folder=request.runs / run,
        run=run,
        target="slurm",
        environment="",
        creator=current_user(),
        created=now(),
        attempts=(Attempt(attempt_name(run, 1), requested_at=now()),),
    )
    try:
        submission.folder.mkdir(parents=True)
        write_whole(submission.folder / _JOB, request.document)
        submission.write()
    except OSError as error:
        raise LaunchError(f"{submission.folder}: {error.strerror or error}") from error
    return submission


def _batch_script(name: str, folder: PurePosixPath, nodes: int, target: SlurmTarget) -> str:
    """Return the batch script of one attempt.

    Partition, account and time limit are those of sbatch's own variables, such as
    `SBATCH_PARTITION` (https://slurm.schedmd.com/sbatch.html#SECTION_INPUT-ENVIRONMENT-VARIABLES).
    """
    mail = target.cluster.mail
    options = [
        f"--job-name={name}",
        f"--comment=temper:{name}",
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        "--exclusive",
        "--requeue",
        "--open-mode=append",
        f"--signal=B:USR1@{SAVE_S}",
        f"--output={folder / 'logs' / LOG}",
        *([f"--mail-user={mail}", "--mail-type=END,FAIL"] if mail else []),
    ]
    python = os.environ.get("SLURM_PYTHON", sys.executable)
    # All cores of a node belong to its one process, which starts a worker for each.
    step = ["srun", "--kill-on-bad-exit=1", "--cpu-bind=none"]
    step += [python, "-m", "temper", "prepare", str(folder / "sent.yaml")]
    return _TEMPLATE.format(
        options="\n".join(f"#SBATCH {option}" for option in options),
        folder=shlex.quote(str(folder)),
        code=shlex.quote(str(Path(__file__).resolve().parents[1])),
        directory=shlex.quote(str(Path.cwd())),
        step=shlex.join(step),
        log=LOG,
        stop=STOP,
    )


_TEMPLATE = """#!/bin/bash
{options}

set -u
export PYTHONPATH={code} PYTHONUNBUFFERED=1
folder={folder}
log="$folder/logs/{log}"
rm -f "$folder/status.json"
cd {directory} || exit 1

# Sent before a preemption or the time limit. Units that are finished stay, so nothing is saved.
requeue=0
stop_and_requeue() {{
    requeue=1
    echo "signalled by Slurm: requeued, and resumed from the units that are finished"
    scancel --signal=KILL "$SLURM_JOB_ID.0" || kill -KILL "$step"
}}
trap stop_and_requeue USR1

echo "start ${{SLURM_RESTART_COUNT:-0}} on $SLURM_JOB_NODELIST"
begun=$(wc -l < "$log")
{step} &
step=$!
# A trapped signal interrupts `wait` while the step is still running.
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do code=0; wait "$step" || code=$?; done
# srun names the node of the process that failed first. Its own code is that of the other processes,
# which it terminated. Lines of several nodes have no fixed order, so the message stays in the log.
task=$(tail -n +"$((begun + 1))" "$log" | grep -m 1 '^srun: error: .*task')
task=${{task#srun: error: }}
case "$task" in *"Exited with exit code "*) code=${{task##* }} ;; esac
echo "end with code $code"
if [ "$code" = 0 ]; then
    echo '{{"state": "finished", "message": "prepared"}}' > "$folder/status.json"
elif [ -e "$folder/{stop}" ]; then
    echo '{{"state": "stopped", "message": "the same command resumes"}}' > "$folder/status.json"
else
    # Codes above 128 mean a signal from outside: retry that a few times only.
    if [ "$code" -gt 128 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 5 ]; then requeue=1; fi
    if [ "$requeue" = 1 ]; then
        scontrol requeue "$SLURM_JOB_ID"
        sleep 60 # until Slurm has taken the job back
    fi
    echo "error: ${{task:-the job failed}}; its message is in $log"
fi
exit "$code"
"""
