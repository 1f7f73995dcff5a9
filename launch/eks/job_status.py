"""Status of a PyTorchJob, as Kubeflow's training operator reports it."""

from __future__ import annotations

from typing import Any

from launch.status import State, Status

_STATES: dict[str, State] = {
    "Succeeded": "not deployed",
    "Failed": "training failed",
    "Suspended": "stopped",
}


def read_status(job: dict[str, Any]) -> Status:
    """Return the status of a PyTorchJob from the newest of its conditions that holds.

    A suspended job has `suspend` set in its spec at once, and the condition `Suspended` only when
    its pods are gone; in between it is stopping.
    """
    conditions = job.get("status", {}).get("conditions", ())
    holding = [condition for condition in conditions if condition.get("status") == "True"]
    suspended = job.get("spec", {}).get("runPolicy", {}).get("suspend", False)
    latest = holding[-1] if holding else {}
    state = _STATES.get(latest.get("type", ""))
    if state is not None:
        message = str(latest.get("message", "")) if state == "training failed" else ""
        return Status(state, message)
    if suspended:
        return Status("stopping", "its pods are saving")
    if latest.get("type") == "Running":
        return Status("training")
    if latest.get("type") == "Restarting":
        return Status("training", "restarting after a node or a process was lost")
    return Status("training", "waiting for healthy nodes")
