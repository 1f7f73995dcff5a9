"""Target `slurm`: one batch job for each attempt of a run.

Everything the job needs is on a file system that all nodes share: code, data and the run folder.
The cluster therefore needs no AWS account, and one command on a login node reads a run's status.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from catalog.local_devices import NEURON_GRAPHS
from launch.code_bundle import code_digest, code_files
from launch.downloads import OWN_FILES
from launch.environment import LaunchEnvironment
from launch.errors import InvalidOptionError
from launch.job_inputs import InputArtifact, missing_channels, rewrite_paths
from launch.prepared_job import PreparedJob
from launch.remote_runs import RemoteRun, RunListing
from launch.resources import cluster_problems, stages_of, unused_keys
from launch.slurm.batch_jobs import BatchJobs
from launch.slurm.fetch import fetch_files
from launch.slurm.list_runs import list_cluster_runs
from launch.slurm.preflight import check_cluster
from launch.slurm.report import read_report
from launch.slurm.script import STOP, SlurmSettings, batch_script
from launch.slurm.shell import (
    LocalShell,
    Shell,
    SshShell,
    copy_files,
    run_script,
    write_file,
)
from launch.slurm.software import describe_software, image_file
from launch.status import Status
from launch.submission import Submission, TargetName
from launch.targets.base import Quote
from training.config import Job, Pipeline
from training.config.runtime import Resources
from training.errors import JobError, Problem

_NOT_FETCHED = (*OWN_FILES, NEURON_GRAPHS, "sent.yaml", "*.sbatch", "*.id", STOP)


def from_environment(environment: LaunchEnvironment | None) -> SlurmTarget:
    """Return the cluster that environment variables describe.

    `SLURM_LOGIN` is the ssh destination of a node with sbatch (this machine if empty),
    `SLURM_ROOT` a folder that every node shares, `SLURM_PYTHON` the Python that has our packages.
    `SLURM_MAIL` is an address that Slurm mails when a job ends.

    Raises:
        InvalidOptionError: `SLURM_MAIL` is no address.
    """
    login = os.environ.get("SLURM_LOGIN", "")
    root = PurePosixPath(os.environ.get("SLURM_ROOT", "/fsx/temper"))
    python = os.environ.get("SLURM_PYTHON", str(root / "venv/bin/python"))
    shell = SshShell(login) if login else LocalShell()
    mail = os.environ.get("SLURM_MAIL", "")
    if re.search(r"\s", mail):
        raise InvalidOptionError(f"SLURM_MAIL={mail!r}: one address, without spaces, is expected")
    return SlurmTarget(shell, SlurmSettings(root, python, mail=mail))


class SlurmTarget:
    """Target that submits batch jobs to one Slurm cluster.

    Args:
        shell: Shell of a node that has sbatch.
        cluster: Paths and options of the cluster.
        name: Name of the target: `slurm`, or `hyperpod` for HyperPod's clusters.
    """

    job_prefix = ""

    def __init__(self, shell: Shell, cluster: SlurmSettings, name: TargetName = "slurm"):
        self.shell = shell
        self.cluster = cluster
        self.name: TargetName = name
        self.jobs = BatchJobs(shell, cluster.root)

    def quote(self, prepared: PreparedJob) -> Quote:
        """Check the job against the cluster, and return what would be done.

        Raises:
            JobError: The nodes cannot read one of the job's inputs.
        """
        plan = prepared.plan
        resources = _resources(prepared.job)
        problems = [
            *missing_channels(prepared.job),
            *cluster_problems(prepared.job, self.name),
            *self._unreachable(prepared.inputs),
        ]
        if problems:
            raise JobError(prepared.source, problems)
        check_cluster(self.shell, self.cluster, resources)
        partition = f", partition {resources.partition}" if resources.partition else ""
        return Quote(
            (
                f"{resources.count} nodes of {self.shell.label}{partition}",
                describe_software(self.cluster, resources.image or ""),
                *(artifact.summary for artifact in prepared.inputs if artifact.path),
                *unused_keys(prepared.job, self.name),
                f"{plan.hours.low:.1f} to {plan.hours.high:.1f} h on {plan.machine}; "
                "the cluster is paid for by the hour, with or without this job",
            )
        )

    def _unreachable(self, inputs: list[InputArtifact]) -> Iterator[Problem]:
        for artifact in inputs:
            if artifact.path is None and not self._mounted_path(artifact):
                yield Problem(
                    artifact.key,
                    "is in S3, and the cluster's file system is not linked with that bucket",
                    artifact.source,
                    "Copy it to the cluster and name the path",
                )

    def _mounted_path(self, artifact: InputArtifact) -> str:
        """Return the path at which the nodes see an S3 address, or an empty string."""
        bucket = f"s3://{self.cluster.data_bucket}/"
        if not self.cluster.data_bucket or not artifact.source.startswith(bucket):
            return ""
        return f"{self.cluster.data_mount}/{artifact.source.removeprefix(bucket)}".rstrip("/")

    def submit(self, submission: Submission, prepared: PreparedJob) -> Submission:
        """Copy code and data, and queue the job unless a job of this name was queued already."""
        folder = self.jobs.run_folder(submission)
        for artifact in prepared.inputs:
            if artifact.path is not None:
                files = [(file, artifact.relative_path(file)) for file in artifact.files]
                copy_files(self.shell, files, self._upload_folder(artifact))
        files = code_files()
        code = self.cluster.root / "code" / code_digest(files)
        copy_files(self.shell, files, code)
        job_text = rewrite_paths(prepared.job, prepared.inputs, self._node_path)
        write_file(self.shell, folder / "sent.yaml", job_text)
        name = submission.latest.name
        resources = _resources(prepared.job)
        script = batch_script(
            name=name,
            folder=folder,
            code=code,
            resources=resources,
            cluster=self.cluster,
            container=self._container(resources),
            creator=submission.creator,
        )
        return self.jobs.submit(submission, script)

    def status(self, submission: Submission) -> Status:
        """Return the status from the queue and the run folder on the cluster.

        Raises:
            LaunchError: The queue could not be asked, or the shared folder is missing.
        """
        report = self.jobs.report(submission)
        if not report.get("id") and submission.cancelled:
            return Status("stopped", "before it was submitted")
        return read_report(report, self.jobs.log(submission))

    def logs(self, submission: Submission, *, follow: bool) -> Iterator[str]:
        """Yield the output of the job; requeued starts append to the same file."""
        yield from self.jobs.output(submission, follow=follow)

    def stop(self, submission: Submission) -> str:
        """Signal the job to save a checkpoint and end, and prevent it from being requeued.

        Raises:
            LaunchError: The queue could not be asked; the job is not requeued, but may run on.
        """
        return self.jobs.stop(submission)

    def fetch(self, submission: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Download the run folder from the cluster.

        Args:
            submission: The run.
            archive: Pack the model as `model.tar.gz`.
            checkpoints: Download the checkpoints too.
        """
        skip = [*_NOT_FETCHED, *([] if checkpoints else ["checkpoints"])]
        remote = self.jobs.run_folder(submission)
        return fetch_files(self.shell, remote, submission.folder, skip=skip, archive=archive)

    def fetch_reports(self, submission: Submission) -> list[Path]:
        """Download a run's files without its model and checkpoints."""
        skip = [*_NOT_FETCHED, "checkpoints", "model", "export"]
        remote = self.jobs.run_folder(submission)
        return fetch_files(self.shell, remote, submission.folder, skip=skip, archive=False)

    def remote_storage(self, submission: Submission) -> list[tuple[str, int]]:
        """Return the run folder on the cluster with its size in bytes."""
        folder = str(self.jobs.run_folder(submission))
        size = run_script(
            self.shell, f"du -sb {shlex.quote(folder)} 2>/dev/null | cut -f1 || true"
        ).strip()
        return [(f"{self.shell.label}:{folder}", int(size))] if size else []

    def delete(self, submission: Submission) -> list[str]:
        """Delete the run folder on the cluster; code and data stay, since other runs share them."""
        run_script(self.shell, f"rm -rf {shlex.quote(str(self.jobs.run_folder(submission)))}")
        return []

    def list_runs(self, days: int | None) -> RunListing:
        """Return the runs of everyone on the cluster, from the run folders and the queue."""
        return list_cluster_runs(self.shell, self.cluster.root, self.name, days)

    def job_document(self, run: RemoteRun) -> str:
        """Return the job file that was sent, with paths on the cluster.

        Raises:
            LaunchError: The cluster has no such file.
        """
        path = self.cluster.root / "runs" / run.run / "sent.yaml"
        return run_script(self.shell, f"cat {shlex.quote(str(path))}")

    def quote_restart(self, submission: Submission) -> Quote:
        """Return what is queued again; the cluster is paid for with or without it."""
        return Quote((f"the batch script of {submission.latest.name} on {self.shell.label}",))

    def restart(self, submission: Submission) -> Submission:
        """Queue the batch script of the previous attempt under the name of the latest one."""
        return self.jobs.submit_again(submission)

    def _container(self, resources: Resources) -> PurePosixPath | None:
        """Return the imported image that a job runs in; None if it runs on the node itself."""
        if self.cluster.software != "container":
            return None
        return image_file(self.cluster, resources.image or self.cluster.image)

    def _upload_folder(self, artifact: InputArtifact) -> PurePosixPath:
        return self.cluster.root / "uploads" / artifact.digest[:24]

    def _node_path(self, artifact: InputArtifact) -> str:
        """Return the path of an input on the nodes."""
        if artifact.path is None:
            return self._mounted_path(artifact)
        return str(self._upload_folder(artifact) / artifact.base_name)


def _resources(job: Job | Pipeline) -> Resources:
    """Return the machines of a job; those of the first stage for a pipeline."""
    return next(iter(stages_of(job))).resources
