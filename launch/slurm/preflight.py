"""Whether a cluster can take a job at all, asked in one command."""

from __future__ import annotations

import shlex

from launch.errors import LaunchError
from launch.slurm.script import SlurmSettings
from launch.slurm.shell import Shell, run
from training.config.runtime import Resources


def check_cluster(shell: Shell, cluster: SlurmSettings, resources: Resources) -> None:
    """Raise with everything that keeps a job from running there.

    Raises:
        LaunchError: No Slurm, too few nodes, nothing to run, nowhere to write.
    """
    partition = f"-p {shlex.quote(resources.partition)}" if resources.partition else ""
    root, python = shlex.quote(str(cluster.root)), shlex.quote(cluster.python)
    said = run(
        shell,
        f"""
        command -v sbatch >/dev/null || {{ echo no-slurm; exit; }}
        echo nodes $(sinfo -h -N {partition} -o %N 2>/dev/null | sort -u | wc -l)
        mkdir -p {root} 2>/dev/null && test -w {root} || echo no-root
        command -v {python} >/dev/null || echo no-python
        """,
    ).split()
    if "no-slurm" in said:
        raise LaunchError(
            f"{shell.where} has no sbatch. Name a login node of the cluster as ssh takes it: "
            "SLURM_LOGIN=user@host"
        )
    found = []
    nodes = int(said[1])
    if nodes < resources.count:
        where = f"partition {resources.partition}" if partition else "the cluster"
        found.append(f"{where} has {nodes} nodes, and the job asks for {resources.count}")
    if "no-root" in said:
        found.append(f"{cluster.root} cannot be written; name a folder all nodes see: SLURM_ROOT=…")
    if "no-python" in said and not cluster.container:
        found.append(
            f"{cluster.python} is not there; make an environment with our packages on the shared "
            "file system and name its Python: SLURM_PYTHON=…"
        )
    if found:
        raise LaunchError(f"{shell.where}: " + "; ".join(found))
