"""Target `eks`: one PyTorchJob on HyperPod's Kubernetes cluster for each attempt of a run.

The run folder is on the Lustre file system, in the part that is linked with the data bucket: pods
see it as `/fsx/data/runs/…`, and this machine as `s3://<data bucket>/runs/…`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from catalog.local_devices import NEURON_GRAPHS
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.s3 import S3Uri
from launch.aws.session import AwsSession
from launch.downloads import OWN_FILES, path_within
from launch.eks.api_server import kubectl_of
from launch.eks.job_lookup import JOB_KIND, JobLookup
from launch.eks.job_status import read_status
from launch.eks.kubectl import Kubectl
from launch.eks.list_runs import list_cluster_runs, renamed
from launch.eks.manifests import (
    DATA,
    JOB_FILE,
    KubernetesSettings,
    PodSpec,
    manifests,
    object_name,
    to_yaml,
)
from launch.eks.namespaces import (
    RESUMED,
    chosen_settings,
    is_resumed,
    platform_settings,
    published_teams,
    settings_of_job,
)
from launch.environment import LaunchEnvironment, require_environment
from launch.errors import LaunchError
from launch.job_inputs import InputArtifact, missing_channels, rewrite_paths
from launch.prepared_job import PreparedJob
from launch.remote_runs import RemoteRun, RunListing
from launch.resources import cloud_resources, cluster_problems, image_kind, unused_keys
from launch.status import State, Status
from launch.submission import Submission, TargetName
from launch.targets.aws_target import AwsTarget
from launch.targets.base import Quote
from training.config.runtime import Resources
from training.errors import JobError, Problem

_RECORDED_STATES: dict[str, State] = {
    "finished": "not deployed",
    "failed": "training failed",
    "stopped": "stopped",
}


def from_environment(environment: LaunchEnvironment | None) -> EksTarget:
    """Return the cluster that kubectl is signed in to.

    `EKS_CONTEXT` selects another context of kubectl, `EKS_NAMESPACE` the namespace of the jobs,
    `EKS_CLAIM` the volume claim of the shared file system in it.

    Raises:
        LaunchError: No environment is given.
    """
    account = AwsSession(require_environment(environment, "eks"))
    cluster = chosen_settings()
    kubectl = Kubectl(cluster.namespace, os.environ.get("EKS_CONTEXT", ""))
    return EksTarget(account, kubectl, cluster)


def hyperpod_target(account: AwsSession, platform: PlatformParameters) -> EksTarget:
    """Return the cluster of the platform, as `temper cluster-setup` prepares it.

    `temper connect` sets kubectl up for it; `EKS_CONTEXT` selects a context of kubectl instead.

    Args:
        account: Session of the account.
        platform: Parameters of the environment.

    Raises:
        LaunchError: kubectl is set up for another cluster.
    """
    cluster = platform_settings(platform)
    kubectl = kubectl_of(account, platform, cluster.namespace)
    return EksTarget(account, kubectl, cluster, "hyperpod", published_teams(platform))


class EksTarget(AwsTarget):
    """Target that creates PyTorchJobs on one Kubernetes cluster.

    Args:
        account: Session of the account that has the images and buckets.
        kubectl: Client of the cluster.
        cluster: Names of the objects that jobs use on the cluster.
        name: Name of the target: `eks`, or `hyperpod` for HyperPod's clusters.
        teams: Teams that share the cluster, each with its own namespace and queue.
    """

    job_prefix = ""

    def __init__(
        self,
        account: AwsSession,
        kubectl: Kubectl,
        cluster: KubernetesSettings,
        name: TargetName = "eks",
        teams: tuple[str, ...] = (),
    ):
        super().__init__(account)
        self.kubectl, self.cluster = kubectl, cluster
        self.name: TargetName = name
        self.teams = teams
        setup = f"temper cluster-setup --env {account.environment.name}"
        self.jobs = JobLookup(
            kubectl,
            namespace=cluster.namespace,
            claim=cluster.claim,
            teams=teams,
            fix=f"an administrator creates it: {setup}"
            if name == "hyperpod"
            else "name another with EKS_CLAIM=…, or create one: docs/launch.md",
        )

    @property
    def _bucket(self) -> str:
        return self.platform["buckets/data"]

    def quote(self, prepared: PreparedJob) -> Quote:
        """Check the job against the cluster, and return what would be created.

        Raises:
            JobError: The pods cannot read one of the job's inputs.
            LaunchError: The namespace has no claim of the shared file system.
        """
        plan = prepared.plan
        resources = cloud_resources(prepared.job, prepared.source, self.name)
        problems = [
            *missing_channels(prepared.job),
            *cluster_problems(prepared.job, self.name),
            *self._unreachable(prepared.inputs),
        ]
        if problems:
            raise JobError(prepared.source, problems)
        cluster = settings_of_job(self.cluster, self.teams, resources.partition)
        self.jobs.claim_uid(cluster.namespace)
        return Quote(
            (
                f"{resources.count} × {resources.instance}, namespace {cluster.namespace}"
                + (f", queue {cluster.queue}" if cluster.queue else ""),
                f"image {self._image(resources)}",
                *(artifact.summary for artifact in prepared.inputs),
                *unused_keys(prepared.job, self.name),
                f"{plan.hours.low:.1f} to {plan.hours.high:.1f} h; "
                "the cluster is paid for by the hour, with or without this job",
                *_warnings(cluster),
            )
        )

    def _unreachable(self, inputs: list[InputArtifact]) -> Iterator[Problem]:
        for artifact in inputs:
            if artifact.path is None and not artifact.source.startswith(f"s3://{self._bucket}/"):
                yield Problem(
                    artifact.key,
                    "is in a bucket that the cluster's file system is not linked with",
                    artifact.source,
                    f"Copy it below s3://{self._bucket}/",
                )

    def submit(self, submission: Submission, prepared: PreparedJob) -> Submission:
        """Upload the job's inputs and apply its manifests, which changes nothing if they exist."""
        job = prepared.job
        resources = cloud_resources(job, submission.run, self.name)
        for artifact in prepared.inputs:
            if artifact.path is not None:
                self.upload(artifact)
        pod = PodSpec(
            name=object_name(submission.latest.name),
            run=submission.run,
            job=rewrite_paths(job, prepared.inputs, self._pod_path),
            image=self._image(resources),
            environment={} if prepared.hub_names else {"HF_HUB_OFFLINE": "1"},
            creator=submission.creator,
        )
        cluster = settings_of_job(self.cluster, self.teams, resources.partition)
        claim = self.jobs.claim_uid(cluster.namespace)
        documents = to_yaml(manifests(pod, resources, cluster))
        self.kubectl.in_namespace(cluster.namespace).run("apply", "-f", "-", stdin=documents)
        handle = f"{cluster.namespace}/{pod.name}@{claim}"
        accepted = submission.with_handle(handle)
        accepted.write()
        return accepted

    def _image(self, resources: Resources) -> str:
        assert resources.instance is not None
        return resources.image or self.platform.image(image_kind(resources.instance))

    def _pod_path(self, artifact: InputArtifact) -> str:
        """Return the path of an input in a pod."""
        if artifact.path is None:
            return f"{DATA}/{artifact.source.removeprefix(f's3://{self._bucket}/')}".rstrip("/")
        return f"{DATA}/uploads/{artifact.digest[:24]}/{artifact.base_name}"

    def status(self, submission: Submission) -> Status:
        """Return the status of the latest attempt, as the training operator reports it.

        Raises:
            LaunchError: The cluster could not be asked, or kubectl asks another one.
        """
        job = self.jobs.find(submission)
        if job is not None:
            return read_status(job)
        if submission.latest.handle:
            return self._exported_status(submission)
        if submission.cancelled:
            return Status("stopped", "before it was submitted")
        return Status("planned", "not submitted: rerun the same command")

    def _exported_status(self, submission: Submission) -> Status:
        """Return the status of a run whose job was deleted from the cluster."""
        text = self.store.get_text(self._prefix(submission) / "status.json")
        recorded = json.loads(text) if text else {}
        state = _RECORDED_STATES.get(recorded.get("state", ""))
        if state is None:
            return Status("stopped", "its job was deleted from the cluster")
        return Status(state, str(recorded.get("message", "")))

    def logs(self, submission: Submission, *, follow: bool) -> Iterator[str]:
        """Yield the output of the first pod."""
        pod = f"{object_name(submission.latest.name)}-worker-0"
        options = ["--follow", "--pod-running-timeout=30m"] if follow else []
        kubectl = self.jobs.kubectl_of(submission)
        yield from kubectl.stream("logs", pod, "--container=pytorch", *options)

    def stop(self, submission: Submission) -> str:
        """Suspend the job: its pods get SIGTERM, save, and are not started again."""
        name = object_name(submission.latest.name)
        job = self.jobs.find(submission)
        if job is None:
            return f"{name} is not running"
        patch = '{"spec": {"runPolicy": {"suspend": true}}}'
        kubectl = self.kubectl.in_namespace(job["metadata"]["namespace"])
        kubectl.run("patch", JOB_KIND, name, "--type=merge", f"--patch={patch}")
        return f"{name} was told to stop; it has two minutes to save a checkpoint"

    def fetch(self, submission: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Download what the file system has exported to the data bucket.

        Args:
            submission: The run.
            archive: Pack the model as `model.tar.gz`.
            checkpoints: Download the checkpoints too.
        """
        prefix, folder = self._prefix(submission), submission.folder
        wanted = {}
        for uri, _ in self.store.list(prefix):
            relative = uri.key.removeprefix(prefix.key)
            parts = relative.split("/")
            skipped = "checkpoints" in parts[:-1] and not checkpoints
            skipped |= NEURON_GRAPHS in parts[:-1]
            if not skipped and relative not in OWN_FILES and parts[-1]:
                wanted[uri] = path_within(folder, relative, str(uri))
        fetched = [path for uri, path in wanted.items() if self.store.download_file(uri, path)]
        if archive and (folder / "model").is_dir():
            packed = folder / "model.tar.gz"
            subprocess.run(
                [sys.executable, "-m", "tarfile", "-c", str(packed), "."],
                cwd=folder / "model",
                check=True,
            )
            return [packed, *(path for path in fetched if "model" not in path.parts)]
        return fetched

    def remote_storage(self, submission: Submission) -> list[tuple[str, int]]:
        """Return the run folder in the data bucket with its size in bytes."""
        prefix = self._prefix(submission)
        return [(str(prefix), self.store.size_bytes(prefix))]

    def delete(self, submission: Submission) -> list[str]:
        """Delete the run's jobs from the cluster and its folder from the data bucket.

        Returns:
            What is left, and why: most people may not delete from the data bucket.
        """
        for attempt in submission.attempts:
            name = object_name(attempt.name)
            for namespace in self.jobs.namespaces(submission):
                self.kubectl.in_namespace(namespace).run(
                    "delete", f"{JOB_KIND},configmap", name, "--ignore-not-found", "--wait=false"
                )
        try:
            self.store.delete(self._prefix(submission))
        except LaunchError as error:
            return [str(error)]
        return []

    def list_runs(self, days: int | None) -> RunListing:
        """Return the runs of everyone in our namespaces, as the labels of their jobs name them."""
        listings = [
            list_cluster_runs(
                self.kubectl.in_namespace(namespace),
                JOB_KIND,
                read_status,
                target=self.name,
                claim_uid=self.jobs.claim_uid(namespace),
                days=days,
            )
            for namespace in self.jobs.all_namespaces
        ]
        return RunListing(
            tuple(run for listing in listings for run in listing.runs),
            tuple(problem for listing in listings for problem in listing.unreadable),
        )

    def job_document(self, run: RemoteRun) -> str:
        """Return the job file that was sent, with the S3 addresses of its inputs.

        Raises:
            LaunchError: The cluster no longer has the job file.
        """
        name, handle = object_name(run.attempts[-1].name), run.attempts[-1].handle
        namespace = handle.partition("/")[0] or self.cluster.namespace
        found = self.kubectl.in_namespace(namespace).find("configmap", name)
        if found is None or JOB_FILE not in found.get("data", {}):
            raise LaunchError(f"the cluster has no ConfigMap {name} with {JOB_FILE}")
        return str(found["data"][JOB_FILE]).replace(f"{DATA}/", f"s3://{self._bucket}/")

    def quote_restart(self, submission: Submission) -> Quote:
        """Return what is created again; the cluster is paid for with or without it."""
        name = object_name(submission.latest.name)
        namespace = self.jobs.previous_namespace(submission)
        return Quote((f"the manifests of {name} in {namespace}, under a new name",))

    def restart(self, submission: Submission) -> Submission:
        """Apply the manifests of the previous attempt under the name of the latest one.

        Raises:
            LaunchError: The cluster no longer has them.
        """
        old = object_name(submission.attempts[-2].name)
        new = object_name(submission.latest.name)
        namespace = self.jobs.previous_namespace(submission)
        kubectl = self.kubectl.in_namespace(namespace)
        existing = [kubectl.find(kind, old) for kind in ("configmap", JOB_KIND)]
        parts = [part for part in existing if part is not None]
        if len(parts) < len(existing):
            raise LaunchError(f"the cluster no longer has the manifests of {old}")
        documents = to_yaml([renamed(part, old, new) for part in parts])
        claim = self.jobs.claim_uid(namespace)
        kubectl.run("apply", "-f", "-", stdin=documents)
        handle = f"{namespace}/{new}@{claim}"
        accepted = submission.with_handle(handle)
        accepted.write()
        return accepted

    def _prefix(self, submission: Submission) -> S3Uri:
        return S3Uri(self._bucket, f"runs/{submission.run}/")


def _warnings(cluster: KubernetesSettings) -> list[str]:
    if is_resumed(cluster.namespace):
        return []
    return [
        f"HyperPod does not resume jobs in {cluster.namespace} after a node fails; it does in "
        f"{RESUMED}"
    ]
