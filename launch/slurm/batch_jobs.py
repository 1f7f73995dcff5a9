"""Batch jobs of a Slurm cluster: submit at most once, report, follow the output, stop.

An operation that asks or changes the queue is one script, so that it takes one connection.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from launch.errors import LaunchError
from launch.slurm.queue import ASK_QUEUE
from launch.slurm.report import parse_report
from launch.slurm.script import LOG, STOP
from launch.slurm.shell import Shell, run_script, stream_script, write_file
from launch.submission import FILE as RECORD
from launch.submission import Submission


class BatchJobs:
    """Batch jobs of runs on a cluster.

    Args:
        shell: Shell of a node that has sbatch.
        root: Folder that every node shares.
    """

    def __init__(self, shell: Shell, root: PurePosixPath):
        self._shell, self._root = shell, root

    def run_folder(self, submission: Submission) -> PurePosixPath:
        """Return the run folder on the cluster."""
        return self._root / "runs" / submission.run

    def log(self, submission: Submission) -> PurePosixPath:
        """Return the file with the output of a run's jobs on the cluster."""
        return self.run_folder(submission) / "logs" / LOG

    def submit(self, submission: Submission, script: str) -> Submission:
        """Queue a batch script as the latest attempt of a run, unless that was done already.

        Args:
            submission: The run.
            script: The batch script.
        """
        path = self.run_folder(submission) / f"{submission.latest.name}.sbatch"
        write_file(self._shell, path, script)
        return self._queue(submission)

    def submit_again(self, submission: Submission) -> Submission:
        """Queue the batch script of the previous attempt under the name of the latest one."""
        folder = self.run_folder(submission)
        previous, name = submission.attempts[-2].name, submission.latest.name
        script = run_script(self._shell, f"cat {shlex.quote(str(folder / f'{previous}.sbatch'))}")
        renamed = re.sub(
            rf"(?m)^(#SBATCH --(?:job-name=|comment=temper:)){re.escape(previous)}$",
            rf"\g<1>{name}",
            script,
        )
        write_file(self._shell, folder / f"{name}.sbatch", renamed)
        return self._queue(submission)

    def _queue(self, submission: Submission) -> Submission:
        """Queue the batch script of the latest attempt, unless that was done already.

        The number that sbatch prints is kept in a file on the cluster. If the connection breaks
        after sbatch, the next call finds the file, or else asks squeue for the job's name.
        """
        folder, name = self.run_folder(submission), submission.latest.name
        # Read by people who list or adopt the runs of others.
        write_file(self._shell, folder / RECORD, submission.text())
        handle = run_script(
            self._shell,
            f"""
            {ASK_QUEUE}
            set -e
            cd {shlex.quote(str(folder))}
            mkdir -p logs
            rm -f {STOP}
            if ! [ -s {name}.id ]; then
                id=$(ask_queue -n {name} -o %i)
                id=$(head -n 1 <<< "$id")
                [ -n "$id" ] || id=$(sbatch --parsable {name}.sbatch)
                echo "$id" > {name}.id.writing
                mv {name}.id.writing {name}.id
            fi
            cat {name}.id
            """,
        ).strip()
        # `sbatch --parsable` prints "<job id>;<cluster>" on clusters that are federated.
        accepted = submission.with_handle(handle.partition(";")[0])
        accepted.write()
        return accepted

    def report(self, submission: Submission) -> dict[str, Any]:
        """Return queue entry, status, last metrics and last error of a run, by one command.

        Raises:
            LaunchError: The queue could not be asked, or the shared folder is missing.
        """
        folder = shlex.quote(str(self.run_folder(submission)))
        output = run_script(
            self._shell,
            f"""
            {ASK_QUEUE}
            {self._find_id(submission)}
            echo "id $id"
            if [ -n "$id" ]; then
                queue=$(ask_queue -j "$id" -o '%T|%r|%N') || exit 1
                echo "queue $(head -n 1 <<< "$queue")"
            fi
            cd {folder} 2>/dev/null || {{ echo "absent 1"; exit 0; }}
            [ -e {STOP} ] && echo "stop 1"
            if [ -e status.json ]; then
                status=$(cat status.json) || exit 1
                echo "status $status"
            fi
            metrics=$(ls -t metrics.jsonl stages/*/metrics.jsonl 2>/dev/null | head -1)
            echo "error $(grep -s '^error: ' logs/{LOG} | tail -n 1 | cut -c 8-)"
            [ -n "$metrics" ] && echo "metrics $(grep '"loss"' "$metrics" | tail -n 1)"
            exit 0
            """,
        )
        report = parse_report(output.splitlines())
        if "absent" in report and "id" in report and "queue" not in report:
            raise LaunchError(
                f"{self.run_folder(submission)} is not on {self._shell.label}, and job "
                f"{report['id']} is no longer in its queue, so the end of the run is unknown. Name "
                "the folder in which it ran with SLURM_ROOT=…, or delete "
                f"{submission.folder} if it was deleted"
            )
        return report

    def _find_id(self, submission: Submission) -> str:
        """Return the lines of a script that set `id` to the job's number, empty if it has none.

        The script fails if that is unknown: without the shared folder, or without an answer.
        """
        root, name = shlex.quote(str(self._root)), submission.latest.name
        id_file = shlex.quote(str(self.run_folder(submission) / f"{name}.id"))
        absent = shlex.quote(
            f"{self._root} does not exist: is the shared file system mounted? Another "
            "folder is named by SLURM_ROOT=…"
        )
        return f"""
            [ -d {root} ] || {{ echo {absent} >&2; exit 1; }}
            id=$(cat {id_file} 2>/dev/null)
            [ -n "$id" ] || id={shlex.quote(submission.latest.handle)}
            [ -n "$id" ] || id=$(ask_queue -n {name} -o %i) || exit 1
            id=$(head -n 1 <<< "$id")
            """

    def output(self, submission: Submission, *, follow: bool) -> Iterator[str]:
        """Yield the output of the job; requeued starts append to the same file."""
        folder = self.run_folder(submission)
        log = shlex.quote(str(self.log(submission)))
        if not follow:
            yield from run_script(self._shell, f"cat {log} 2>/dev/null || true").splitlines()
            return
        id_file = shlex.quote(str(folder / f"{submission.latest.name}.id"))
        yield from stream_script(
            self._shell,
            f"""
            {ASK_QUEUE}
            touch {log}
            tail -n +1 -F {log} 2>/dev/null & tail=$!
            while id=$(cat {id_file}); do
                # A query that fails does not end the log: the job may still run.
                if state=$(ask_queue -j "$id" -o %T 2>/dev/null); then
                    [ -n "$state" ] || break
                fi
                sleep 1
            done
            sleep 1
            kill $tail
            """,
        )

    def stop(self, submission: Submission) -> str:
        """Signal the job to save a checkpoint and end, and prevent it from being requeued.

        Raises:
            LaunchError: The queue could not be asked; the job is not requeued, but may run on.
        """
        name, folder = submission.latest.name, shlex.quote(str(self.run_folder(submission)))
        outcome = run_script(
            self._shell,
            f"""
            {ASK_QUEUE}
            {self._find_id(submission)}
            [ -n "$id" ] || {{ echo none; exit; }}
            cd {folder} 2>/dev/null && touch {STOP}
            state=$(ask_queue -j "$id" -o %T) || exit 1
            case "$state" in
                "") echo over ;;
                RUNNING|COMPLETING) scancel --signal=TERM "$id"; echo signalled ;;
                *) scancel "$id"; echo dequeued ;;
            esac
            """,
        ).strip()
        return {
            "signalled": f"{name} was told to stop; it saves a checkpoint first",
            "dequeued": f"{name} was waiting, and was removed from the queue",
        }.get(outcome, f"{name} is not running")
