"""Number of worker processes of a job on a node, and whether the nodes can run them."""

from __future__ import annotations

from training.config import Job
from training.errors import JobError, Problem
from training.nodes import NodeSet
from training.processes import num_accelerators, num_cores


def num_processes(job: Job) -> int:
    """Return the number of processes of a run on this node."""
    if not job.method.trains:
        return 1
    return job.resources.processes or max(1, num_accelerators())


def check_processes(job: Job, source: str, nodes: NodeSet) -> None:
    """Check that the nodes have room for the processes of a job, and that they divide its batch.

    Args:
        job: The job.
        source: Name of the job file, for messages.
        nodes: Nodes of the run.

    Raises:
        JobError: They do not; lists every problem.
    """
    wanted, devices, cores = job.resources.processes, num_accelerators(), num_cores()
    room, what = (devices, "accelerators") if devices else (cores, "cores")
    problems = []
    if not job.method.trains:
        if nodes.count > 1 or (wanted or 1) > 1:
            several = f"{nodes.count} nodes × {wanted or 1} processes"
            problem = "writes its rows in one process on one machine"
            raise JobError(source, [Problem("resources", f"{job.method.kind} {problem}", several)])
        return
    if wanted is not None and wanted > room:
        problems.append(
            Problem(
                "resources.processes",
                f"this machine has {room} {what}",
                str(wanted),
                f"Set it to {room} or less",
            )
        )
    everywhere = nodes.count * (wanted or max(1, devices))
    micro = job.train.micro_batch_size
    if job.train.global_batch_size % (everywhere * (micro or 1)):
        each = f", of {micro} rows at once (train.micro_batch_size)" if micro else ""
        problems.append(
            Problem(
                "train.global_batch_size",
                f"must be a multiple of the {everywhere} processes "
                f"({nodes.count} nodes × {everywhere // nodes.count}){each}",
                str(job.train.global_batch_size),
                f"Set it to a multiple of {everywhere * (micro or 1)}",
            )
        )
    if problems:
        raise JobError(source, problems)
