"""Check that a cluster can execute a job, by one command on its login node."""

from __future__ import annotations

import shlex

from launch.errors import LaunchError
from launch.slurm.script import SlurmSettings
from launch.slurm.shell import Shell, run_script
from training.config.runtime import Resources


def check_cluster(shell: Shell, cluster: SlurmSettings, resources: Resources) -> None:
    """Raise with everything that keeps a job from running on a cluster.

    Args:
        shell: Shell of the login node.
        cluster: Paths and options of the cluster.
        resources: Nodes that the job requests.

    Raises:
        LaunchError: The cluster lacks Slurm, nodes, our Python, or a writable shared folder.
    """
    partition = f"-p {shlex.quote(resources.partition)}" if resources.partition else ""
    root, python = shlex.quote(str(cluster.root)), shlex.quote(cluster.python)
    report = run_script(
        shell,
        f"""
        command -v sbatch >/dev/null || {{ echo no-slurm; exit; }}
        echo nodes $(sinfo -h -N {partition} -o %N 2>/dev/null | sort -u | wc -l)
        mkdir -p {root} 2>/dev/null && test -w {root} || echo no-root
        command -v {python} >/dev/null || echo no-python
        """,
    ).split()
    if "no-slurm" in report:
        raise LaunchError(
            f"{shell.label} has no sbatch. Name a login node of the cluster as ssh takes it: "
            "SLURM_LOGIN=user@host"
        )
    problems = []
    nodes = int(report[1])
    if nodes < resources.count:
        where = f"partition {resources.partition}" if partition else "the cluster"
        problems.append(f"{where} has {nodes} nodes, and the job requests {resources.count}")
    if "no-root" in report:
        problems.append(
            f"{cluster.root} cannot be written; name a folder that all nodes share: SLURM_ROOT=…"
        )
    if "no-python" in report and not cluster.container:
        problems.append(
            f"{cluster.python} does not exist; create an environment with our packages on the "
            "shared file system and name its Python: SLURM_PYTHON=…"
        )
    if problems:
        raise LaunchError(f"{shell.label}: " + "; ".join(problems))
