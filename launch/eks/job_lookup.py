"""Namespaces of a cluster's jobs, and the identity of the cluster."""

from __future__ import annotations

from typing import Any

from launch.eks.kubectl import Kubectl
from launch.eks.manifests import object_name
from launch.eks.namespaces import TEAM_NAMESPACE
from launch.errors import LaunchError
from launch.submission import Submission

JOB_KIND = "pytorchjobs.kubeflow.org"
_CLAIM = "persistentvolumeclaim"


class JobLookup:
    """Finder of jobs in the namespaces of one cluster.

    The handle of a job is `<namespace>/<name>@<UID of the namespace's volume claim>`; no other
    namespace or cluster has that UID.

    Args:
        kubectl: Client of the cluster.
        namespace: Namespace of jobs without a team.
        claim: Name of the volume claim in each namespace.
        teams: Teams that share the cluster, each with its own namespace.
        fix: What to do if a namespace has no claim.
    """

    def __init__(
        self, kubectl: Kubectl, *, namespace: str, claim: str, teams: tuple[str, ...], fix: str
    ):
        self._kubectl, self._claim, self._fix = kubectl, claim, fix
        self._default = namespace
        self.all_namespaces = [TEAM_NAMESPACE.format(team) for team in teams] or [namespace]

    def find(self, submission: Submission) -> dict[str, Any] | None:
        """Return the PyTorchJob of the latest attempt, or None if its own cluster has none.

        Raises:
            LaunchError: The cluster could not be asked, or kubectl asks another one.
        """
        name, handle = object_name(submission.latest.name), submission.latest.handle
        for namespace in self.namespaces(submission):
            job = self._kubectl.in_namespace(namespace).find(JOB_KIND, name)
            if job is not None:
                return job
        if handle:
            self._require_cluster_of(name, handle)
        return None

    def namespaces(self, submission: Submission) -> list[str]:
        """Return the namespaces that may have the job: the recorded one, or all of the teams.

        A job that was sent, but whose acceptance was not recorded, may be in any of them.
        """
        namespace, slash, _ = submission.latest.handle.partition("/")
        return [namespace] if slash else self.all_namespaces

    def kubectl_of(self, submission: Submission) -> Kubectl:
        """Return the client of the namespace that has the latest attempt."""
        return self._kubectl.in_namespace(self.namespaces(submission)[0])

    def previous_namespace(self, submission: Submission) -> str:
        """Return the namespace of the newest attempt that was accepted."""
        handles = [attempt.handle for attempt in submission.attempts if "/" in attempt.handle]
        return handles[-1].partition("/")[0] if handles else self._default

    def _require_cluster_of(self, name: str, handle: str) -> None:
        """Raise unless kubectl asks the cluster and the namespace that a job was sent to.

        In every other cluster the job does not exist, which says nothing about it.

        Raises:
            LaunchError: It is another one, or the record does not say which.
        """
        place, _, recorded = handle.rpartition("@")
        namespace = place.partition("/")[0] or self._default
        claim = self._kubectl.in_namespace(namespace).find(_CLAIM, self._claim) or {}
        if not place or recorded == "unknown":
            raise LaunchError(
                f"{name} is not in {namespace} of kubectl's current context, and its record does "
                "not say which cluster it was sent to. Ask each cluster: EKS_CONTEXT=…"
            )
        if recorded != claim.get("metadata", {}).get("uid"):
            raise LaunchError(
                f"{name} was submitted to another cluster or namespace than "
                f"{namespace}/{self._claim} of kubectl's current context. "
                "Select the one it was submitted to: EKS_CONTEXT=…, EKS_CLAIM=…"
            )

    def claim_uid(self, namespace: str) -> str:
        """Return the UID of the volume claim, which no other namespace or cluster has.

        Raises:
            LaunchError: The namespace has no claim of the shared file system.
        """
        claim = self._kubectl.in_namespace(namespace).find(_CLAIM, self._claim)
        if claim is None:
            raise LaunchError(
                f"the namespace {namespace} has no volume claim {self._claim} "
                f"for the shared file system; {self._fix}"
            )
        return str(claim["metadata"]["uid"])
