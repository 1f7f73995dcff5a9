"""A Slurm cluster: one batch job for each attempt of a run.

Everything the job needs is on a file system that all nodes see: code, data, and the run folder. So
the cluster needs no account, and a run is looked at with one command on a login node.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from launch.code_bundle import code_digest, code_files
from launch.environment import LaunchEnvironment
from launch.job_inputs import InputArtifact, collect_inputs, missing_channels, rewrite_paths
from launch.resources import runs_of
from launch.slurm.fetch import fetch_files
from launch.slurm.preflight import check_cluster
from launch.slurm.script import LOG, STOP, SlurmSettings, batch_script
from launch.slurm.shell import Here, Shell, Ssh, copy, run, stream, write
from launch.status import Status
from launch.submission_record import SubmissionRecord, TargetName
from launch.targets.base import Quote, Submission
from planning import Plan
from training.config import Job, Pipeline
from training.config.runtime import Resources
from training.errors import JobError, Problem

_ENDED = {"finished": "not deployed", "failed": "training failed", "stopped": "stopped"}
_STAYS = ("job.yaml", "sent.yaml", "status.json", "failure.json", "*.sbatch", "*.id", ".lock", STOP)
_WAITING = frozenset(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED"))


def from_environment(environment: LaunchEnvironment | None) -> SlurmTarget:
    """Return the cluster that the environment's variables name.

    `SLURM_LOGIN` is where sbatch is, as ssh takes it (this machine when empty); `SLURM_ROOT` a
    folder that every node sees; `SLURM_PYTHON` what runs our code on a node.
    """
    login = os.environ.get("SLURM_LOGIN", "")
    root = PurePosixPath(os.environ.get("SLURM_ROOT", "/fsx/temper"))
    python = os.environ.get("SLURM_PYTHON", str(root / "venv/bin/python"))
    return SlurmTarget(Ssh(login) if login else Here(), SlurmSettings(root, python))


class SlurmTarget:
    """A cluster.

    Args:
        shell: Where sbatch is.
        cluster: What a job must know of it.
        name: As what it is known to the person.
    """

    def __init__(self, shell: Shell, cluster: SlurmSettings, name: TargetName = "slurm"):
        self.shell = shell
        self.cluster = cluster
        self.name: TargetName = name

    def offer(self, job: Job | Pipeline, plan: Plan, source: str) -> Quote:
        """Check the job against the cluster, and say what would be done."""
        resources = _resources(job)
        items = collect_inputs(job)
        problems = [*missing_channels(job), *self._unreachable(items)]
        if problems:
            raise JobError(source, problems)
        check_cluster(self.shell, self.cluster, resources)
        partition = f", partition {resources.partition}" if resources.partition else ""
        return Quote(
            (
                f"{resources.count} nodes of {self.shell.where}{partition}",
                *(
                    f"copies {i.path} ({i.size_bytes / 2**20:.1f} MiB; {i.key})"
                    for i in items
                    if i.path
                ),
                f"{plan.hours.low:.1f} to {plan.hours.high:.1f} h on {plan.machine}; "
                "the cluster is paid for by the hour, with or without this job",
            )
        )

    def _unreachable(self, items: list[InputArtifact]) -> Iterator[Problem]:
        for item in items:
            if item.path is None and not self._mounted(item):
                yield Problem(
                    item.key,
                    "is in S3, and the cluster's file system is not linked with that bucket",
                    item.name,
                    "Copy it to the cluster and name the path",
                )

    def _mounted(self, item: InputArtifact) -> str:
        """Return where the nodes see an address, or nothing."""
        bucket = f"s3://{self.cluster.data_bucket}/"
        if not self.cluster.data_bucket or not item.name.startswith(bucket):
            return ""
        return f"{self.cluster.data_mount}/{item.name.removeprefix(bucket)}".rstrip("/")

    def submit(self, sent: Submission, job: Job | Pipeline, plan: Plan) -> SubmissionRecord:
        """Copy code and data, and queue the job; a job of this name that is there stays the one."""
        record, folder = sent.record, self._folder(sent)
        items = collect_inputs(job)
        for item in items:
            if item.path is not None:
                copy(self.shell, [(f, item.place_of(f)) for f in item.files], self._home(item))
        files = code_files()
        code = self.cluster.root / "code" / code_digest(files)
        copy(self.shell, files, code)
        write(self.shell, folder / "sent.yaml", rewrite_paths(job, items, self._place))
        script = batch_script(
            name=record.latest.name,
            folder=folder,
            code=code,
            resources=_resources(job),
            cluster=self.cluster,
        )
        name = record.latest.name
        write(self.shell, folder / f"{name}.sbatch", script)
        handle = run(
            self.shell,
            f"""
            set -e
            cd {shlex.quote(str(folder))}
            mkdir -p logs
            rm -f {STOP}
            if ! [ -s {name}.id ]; then
                id=$(squeue -h -n {name} -o %i | head -1)
                [ -n "$id" ] || id=$(sbatch --parsable {name}.sbatch)
                echo "$id" > {name}.id.writing
                mv {name}.id.writing {name}.id
            fi
            cat {name}.id
            """,
        ).strip()
        record = record.accepted(handle.partition(";")[0])
        record.write(sent.folder)
        return record

    def status(self, sent: Submission) -> Status:
        """Ask the queue, and read the run folder."""
        seen = self._look(sent)
        told, metrics = seen.get("status", {}), seen.get("metrics", {})
        step, loss = metrics.get("step"), metrics.get("loss")
        queue = str(seen.get("queue", "")).split("|")
        if queue[0] in _WAITING:
            return Status("training", f"waiting: {queue[1] or queue[0].lower()}", step, loss)
        if queue[0]:
            stopping = bool(seen.get("stop"))
            return Status("stopping" if stopping else "training", f"on {queue[2]}", step, loss)
        if not seen.get("id"):
            if sent.record.cancelled:
                return Status("stopped", "before it was submitted")
            return Status("planned", "not submitted: the same command goes on")
        state = _ENDED.get(told.get("state", ""), "")
        if state:
            return Status(state, str(told.get("message", "")), step, loss)  # type: ignore[arg-type]  # a word of ours
        log = self._folder(sent) / "logs" / LOG
        why = seen.get("error") or f"its job ended without a word; see {log}"
        return Status("training failed", why, step, loss)

    def _look(self, sent: Submission) -> dict[str, Any]:
        """Return what one command on the login node tells of a run."""
        folder, name = shlex.quote(str(self._folder(sent))), sent.record.latest.name
        said = run(
            self.shell,
            f"""
            cd {folder} 2>/dev/null || exit 0
            id=$(cat {name}.id 2>/dev/null)
            echo "id $id"
            [ -e {STOP} ] && echo "stop 1"
            if [ -n "$id" ]; then
                echo "queue $(squeue -h -j "$id" -o '%T|%r|%N' 2>/dev/null | head -1)"
            fi
            echo "status $(cat status.json 2>/dev/null)"
            metrics=$(ls -t metrics.jsonl stages/*/metrics.jsonl 2>/dev/null | head -1)
            echo "error $(grep -s '^error: ' logs/{LOG} | tail -n 1 | cut -c 8-)"
            [ -n "$metrics" ] && echo "metrics $(grep '"loss"' "$metrics" | tail -n 1)"
            exit 0
            """,
        )
        found: dict[str, Any] = {}
        for line in said.splitlines():
            key, _, value = line.partition(" ")
            if key in ("status", "metrics"):
                try:
                    found[key] = json.loads(value)
                except ValueError:
                    continue
            elif value:
                found[key] = value
        return found

    def logs(self, sent: Submission, *, follow: bool) -> Iterator[str]:
        """Yield the job's output, from every start of it."""
        log = shlex.quote(str(self._folder(sent) / "logs" / LOG))
        if not follow:
            yield from run(self.shell, f"cat {log} 2>/dev/null || true").splitlines()
            return
        id_file = shlex.quote(str(self._folder(sent) / f"{sent.record.latest.name}.id"))
        yield from stream(
            self.shell,
            f"""
            touch {log}
            tail -n +1 -F {log} 2>/dev/null & tail=$!
            while squeue -h -j "$(cat {id_file})" -o %T 2>/dev/null | grep -q .; do sleep 1; done
            sleep 1
            kill $tail
            """,
        )

    def stop(self, sent: Submission) -> str:
        """Let the job save and end, and not be queued again."""
        name, folder = sent.record.latest.name, shlex.quote(str(self._folder(sent)))
        said = run(
            self.shell,
            f"""
            cd {folder} 2>/dev/null || {{ echo none; exit; }}
            touch {STOP}
            id=$(cat {name}.id 2>/dev/null)
            state=$(squeue -h -j "$id" -o %T 2>/dev/null)
            case "$state" in
                "") echo over ;;
                RUNNING|COMPLETING) scancel --signal=TERM "$id"; echo told ;;
                *) scancel "$id"; echo taken ;;
            esac
            """,
        ).strip()
        return {
            "told": f"{name} was told to stop; it saves a checkpoint first",
            "taken": f"{name} was waiting, and was taken from the queue",
        }.get(said, f"{name} does not run")

    def fetch(self, sent: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Bring the model and the record of the run."""
        skip = [*_STAYS, *([] if checkpoints else ["checkpoints"])]
        there = self._folder(sent)
        return fetch_files(self.shell, there, sent.folder, skip=skip, archive=archive)

    def belongings(self, sent: Submission) -> list[tuple[str, int]]:
        """Return the run folder on the cluster, with bytes."""
        folder = str(self._folder(sent))
        said = run(
            self.shell, f"du -sb {shlex.quote(folder)} 2>/dev/null | cut -f1 || true"
        ).strip()
        return [(f"{self.shell.where}:{folder}", int(said))] if said else []

    def delete(self, sent: Submission) -> list[str]:
        """Delete the run folder on the cluster. Copies of code and data stay for other runs."""
        run(self.shell, f"rm -rf {shlex.quote(str(self._folder(sent)))}")
        return []

    def _folder(self, sent: Submission) -> PurePosixPath:
        return self.cluster.root / "runs" / sent.record.run

    def _home(self, item: InputArtifact) -> PurePosixPath:
        return self.cluster.root / "uploads" / item.digest[:24]

    def _place(self, item: InputArtifact) -> str:
        """Return where an item stands on the nodes."""
        return str(self._home(item) / item.own_name) if item.path else self._mounted(item)


def _resources(job: Job | Pipeline) -> Resources:
    """Return the machines of a job: those of the first stage, where there are several."""
    return next(iter(runs_of(job))).resources
