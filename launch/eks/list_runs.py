"""Runs of everyone in one namespace of a Kubernetes cluster, from the labels of their jobs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from launch.eks.kubectl import Kubectl
from launch.remote_runs import RemoteRun, RunListing, is_job_name, is_run_name, merge_attempts
from launch.status import Status
from launch.submission import Attempt, TargetName

CREATOR = "temper/creator"
"""Annotation with the login name of the person who submitted a job."""
MANAGED_BY = "app.kubernetes.io/managed-by=temper"
_OF_THE_CLUSTER = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")


def list_cluster_runs(
    kubectl: Kubectl,
    kind: str,
    read_status: Callable[[dict[str, Any]], Status],
    *,
    target: TargetName,
    claim_uid: str,
    days: int | None,
) -> RunListing:
    """Return the runs whose jobs a cluster has.

    Args:
        kubectl: Client of the cluster.
        kind: Kind of the jobs.
        read_status: Returns the status of a job.
        target: Name of the target.
        claim_uid: UID of the volume claim, which identifies the cluster in a handle.
        days: Age of the oldest job in days; None for all.
    """
    output = kubectl.run("get", kind, f"--selector={MANAGED_BY}", "--output=json")
    oldest = datetime.now(UTC) - timedelta(days=days) if days is not None else None
    attempts, unreadable = [], []
    for job in json.loads(output or "{}").get("items", ()):
        metadata = job.get("metadata", {})
        labels, name = metadata.get("labels", {}), str(metadata.get("name", ""))
        run = f"{labels.get('temper/job', '')}/{labels.get('temper/run', '')}"
        created = str(metadata.get("creationTimestamp", ""))
        if not is_run_name(run) or not is_job_name(name):
            unreadable.append(f"{name}: its labels name no run ({run!r})")
        elif oldest is None or created >= oldest.strftime("%Y-%m-%dT%H:%M:%SZ"):
            handle = f"{metadata.get('namespace', '')}/{name}@{claim_uid}"
            creator = str(metadata.get("annotations", {}).get(CREATOR, ""))
            attempt = Attempt(name, handle, created)
            status = read_status(job)
            attempts.append(RemoteRun(run, target, "", creator, created, (attempt,), status))
    return RunListing(tuple(merge_attempts(attempts)), tuple(unreadable))


def renamed(manifest: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return the manifest of an object of the cluster under a new name, to be applied.

    Args:
        manifest: Object as the cluster returns it.
        old: Name of the previous attempt.
        new: Name of the new one; the job file's ConfigMap has the same name as its job.
    """
    document: dict[str, Any] = copy.deepcopy(dict(manifest))
    document.pop("status", None)
    metadata = document["metadata"]
    for key in _OF_THE_CLUSTER:
        metadata.pop(key, None)
    applied = "kubectl.kubernetes.io/last-applied-configuration"
    metadata.get("annotations", {}).pop(applied, None)
    metadata["name"] = new
    document.get("spec", {}).get("runPolicy", {}).pop("suspend", None)
    with_volume: dict[str, Any] = _rename_volume(document, old, new)
    return with_volume


def _rename_volume(value: Any, old: str, new: str) -> Any:
    """Return a manifest in which volumes of the ConfigMap of the old name have the new one."""
    if isinstance(value, dict):
        return {
            key: {**part, "name": new}
            if key == "configMap" and isinstance(part, dict) and part.get("name") == old
            else _rename_volume(part, old, new)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [_rename_volume(part, old, new) for part in value]
    return value
