"""HyperPod on EKS: one PyTorchJob for each attempt of a run.

The run folder is on the Lustre file system, in the part that is linked with the data bucket: pods
see it as `/fsx/data/runs/…`, and this machine as `s3://<data bucket>/runs/…`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import AwsSession
from launch.eks.kubectl import Kubectl
from launch.eks.manifests import DATA, KubernetesSettings, PodSpec, manifests, object_name, to_yaml
from launch.environment import LaunchEnvironment
from launch.errors import LaunchError
from launch.job_inputs import (
    InputArtifact,
    collect_inputs,
    hub_names,
    missing_channels,
    rewrite_paths,
)
from launch.resources import image_kind, resources_of
from launch.status import State, Status
from launch.submission_record import SubmissionRecord, TargetName
from launch.targets.base import Quote, Submission
from planning import Plan
from training.config import Job, Pipeline
from training.config.runtime import Resources
from training.errors import JobError, Problem

_KIND = "pytorchjobs.kubeflow.org"
_STATES: dict[str, State] = {
    "Succeeded": "not deployed",
    "Failed": "training failed",
    "Suspended": "stopped",
}
_NOT_FETCHED = frozenset(("job.yaml", "status.json", "failure.json", ".lock"))


def from_environment(environment: LaunchEnvironment | None) -> EksTarget:
    """Return the cluster that kubectl is signed in to (`EKS_CONTEXT` names another context).

    `EKS_NAMESPACE` is where jobs are made, `EKS_CLAIM` the volume claim of the file system there.
    """
    if environment is None:
        raise LaunchError("TARGET=eks needs an environment: ENV=dev")
    known = KubernetesSettings()
    cluster = KubernetesSettings(
        namespace=os.environ.get("EKS_NAMESPACE", known.namespace),
        claim=os.environ.get("EKS_CLAIM", known.claim),
    )
    kubectl = Kubectl(cluster.namespace, os.environ.get("EKS_CONTEXT", ""))
    return EksTarget(AwsSession(environment), kubectl, cluster)


class EksTarget:
    """Jobs on one cluster.

    Args:
        account: Where its images and buckets are.
        kubectl: Asks it.
        cluster: What a job must know of it.
        name: As what it is known to the person.
    """

    def __init__(
        self,
        account: AwsSession,
        kubectl: Kubectl,
        cluster: KubernetesSettings,
        name: TargetName = "eks",
    ):
        self.account, self.kubectl, self.cluster = account, kubectl, cluster
        self.name: TargetName = name

    @cached_property
    def platform(self) -> PlatformParameters:
        """What the environment published."""
        return read_platform_parameters(self.account.environment, self.account.client("ssm"))

    @cached_property
    def store(self) -> S3Store:
        """Its buckets."""
        return S3Store(self.account.client("s3"))

    @property
    def _bucket(self) -> str:
        return self.platform["buckets/data"]

    def offer(self, job: Job | Pipeline, plan: Plan, source: str) -> Quote:
        """Check the job against the cluster, and say what would be made."""
        resources = resources_of(job, source, self.name)
        items = collect_inputs(job)
        problems = [*missing_channels(job), *self._unreachable(items)]
        if problems:
            raise JobError(source, problems)
        if self.kubectl.find("persistentvolumeclaim", self.cluster.claim) is None:
            raise LaunchError(
                f"the namespace {self.cluster.namespace} has no volume claim {self.cluster.claim} "
                "for the shared file system. Name another with EKS_CLAIM=…, or make one: "
                "docs/launch.md"
            )
        return Quote(
            (
                f"{resources.count} × {resources.instance}, namespace {self.cluster.namespace}",
                f"image {self._image(resources)}",
                *(item.described for item in items),
                f"{plan.hours.low:.1f} to {plan.hours.high:.1f} h; "
                "the cluster is paid for by the hour, with or without this job",
            )
        )

    def _unreachable(self, items: list[InputArtifact]) -> Iterator[Problem]:
        for item in items:
            if item.path is None and not item.name.startswith(f"s3://{self._bucket}/"):
                yield Problem(
                    item.key,
                    "is in a bucket that the cluster's file system is not linked with",
                    item.name,
                    f"Copy it below s3://{self._bucket}/",
                )

    def submit(self, sent: Submission, job: Job | Pipeline, plan: Plan) -> SubmissionRecord:
        """Copy what the job needs and apply its manifests; what is there already stays the one."""
        record = sent.record
        resources = resources_of(job, record.run, self.name)
        items = collect_inputs(job)
        for item in items:
            if item.path is not None:
                self.store.put_item(item, self._bucket)
        order = PodSpec(
            name=object_name(record.latest.name),
            run=record.run,
            job=rewrite_paths(job, items, self._place),
            image=self._image(resources),
            environment={} if hub_names(job) else {"HF_HUB_OFFLINE": "1"},
        )
        self.kubectl.run(
            "apply", "-f", "-", feed=to_yaml(manifests(order, resources, self.cluster))
        )
        record = record.accepted(f"{self.cluster.namespace}/{order.name}")
        record.write(sent.folder)
        return record

    def _image(self, resources: Resources) -> str:
        assert resources.instance is not None
        return resources.image or self.platform.image(image_kind(resources.instance))

    def _place(self, item: InputArtifact) -> str:
        """Return where a pod sees an item."""
        if item.path is None:
            return f"{DATA}/{item.name.removeprefix(f's3://{self._bucket}/')}".rstrip("/")
        return f"{DATA}/uploads/{item.digest[:24]}/{item.own_name}"

    def status(self, sent: Submission) -> Status:
        """Ask the operator where the latest attempt stands."""
        found = self.kubectl.find(_KIND, object_name(sent.record.latest.name))
        if found is None:
            if sent.record.cancelled:
                return Status("stopped", "before it was submitted")
            return Status("planned", "not submitted: the same command goes on")
        return read_status(found)

    def logs(self, sent: Submission, *, follow: bool) -> Iterator[str]:
        """Yield what the first pod prints."""
        pod = f"{object_name(sent.record.latest.name)}-worker-0"
        follows = ["--follow", "--pod-running-timeout=30m"] if follow else []
        yield from self.kubectl.stream("logs", pod, "--container=pytorch", *follows)

    def stop(self, sent: Submission) -> str:
        """Suspend the job: its pods are told to end, save, and are not started again."""
        name = object_name(sent.record.latest.name)
        if self.kubectl.find(_KIND, name) is None:
            return f"{name} does not run"
        patch = '{"spec": {"runPolicy": {"suspend": true}}}'
        self.kubectl.run("patch", _KIND, name, "--type=merge", f"--patch={patch}")
        return f"{name} was told to stop; it has two minutes to save a checkpoint"

    def fetch(self, sent: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Bring what the file system has put into the data bucket."""
        prefix = self._folder(sent.record)
        brought = []
        for address, _ in self.store.list(prefix):
            inside = address.key.removeprefix(prefix.key)
            parts = inside.split("/")
            skipped = "checkpoints" in parts[:-1] and not checkpoints
            if skipped or ".." in parts or inside in _NOT_FETCHED or not parts[-1]:
                continue
            if self.store.get_file(address, sent.folder / inside):
                brought.append(sent.folder / inside)
        if archive and (sent.folder / "model").is_dir():
            packed = sent.folder / "model.tar.gz"
            subprocess.run(
                [sys.executable, "-m", "tarfile", "-c", str(packed), "."],
                cwd=sent.folder / "model",
                check=True,
            )
            return [packed, *(p for p in brought if "model" not in p.parts)]
        return brought

    def belongings(self, sent: Submission) -> list[tuple[str, int]]:
        """Return the run folder as the bucket has it, with bytes."""
        prefix = self._folder(sent.record)
        return [(str(prefix), self.store.size_bytes(prefix))]

    def delete(self, sent: Submission) -> list[str]:
        """Delete the job from the cluster, and its folder."""
        for attempt in sent.record.attempts:
            name = object_name(attempt.name)
            self.kubectl.run(
                "delete", f"{_KIND},configmap", name, "--ignore-not-found", "--wait=false"
            )
        self.store.delete(self._folder(sent.record))
        return []

    def _folder(self, record: SubmissionRecord) -> S3Uri:
        return S3Uri(self._bucket, f"runs/{record.run}/")


def read_status(found: dict[str, Any]) -> Status:
    """Return where a PyTorchJob stands, by the newest of its conditions that holds."""
    told = found.get("status", {})
    holding = [c for c in told.get("conditions", ()) if c.get("status") == "True"]
    suspended = found.get("spec", {}).get("runPolicy", {}).get("suspend", False)
    latest = holding[-1] if holding else {}
    state = _STATES.get(latest.get("type", ""))
    if state is not None:
        why = str(latest.get("message", "")) if state == "training failed" else ""
        return Status(state, why)
    if suspended:
        return Status("stopping", "its pods are saving")
    if latest.get("type") == "Running":
        return Status("training")
    if latest.get("type") == "Restarting":
        return Status("training", "starting again after a node or a process was lost")
    return Status("training", "waiting for healthy nodes")
