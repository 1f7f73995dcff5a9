"""Query of a cluster's queue that never takes a failed query for an empty queue."""

from __future__ import annotations

ASK_QUEUE = """
ask_queue() {
    local error
    { error=$(squeue -h "$@" 2>&1 1>&3 3>&-); } 3>&1 && return 0
    case "$error" in *"nvalid job id"*) return 0 ;; esac
    echo "squeue could not be asked, so nothing is known about the job: $error" >&2
    return 1
}
"""
"""Bash function `ask_queue ARGUMENTS`, which prints what `squeue ARGUMENTS` prints.

slurmctld forgets a job some minutes after its end, and squeue then fails with "Invalid job id",
which shows that the job is gone. Every other failure (a controller that restarts, a timeout, a
missing munge key) shows nothing, and the function fails, too.
"""
