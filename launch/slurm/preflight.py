"""Check that a cluster can execute a job, by one command on its login node."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from launch.errors import LaunchError
from launch.slurm.script import SlurmSettings
from launch.slurm.shell import Shell, run_script
from launch.slurm.software import environment_folder, image_file
from training.config.runtime import Resources

_LIFECYCLE_LOG = "the log of the node's lifecycle script says why"


def check_cluster(shell: Shell, cluster: SlurmSettings, resources: Resources) -> None:
    """Raise with everything that keeps a job from running on a cluster.

    Args:
        shell: Shell of the login node.
        cluster: Paths and options of the cluster.
        resources: Nodes that the job requests.

    Raises:
        LaunchError: The cluster lacks Slurm, nodes, the software, or a writable shared folder.
    """
    partition = f"-p {shlex.quote(resources.partition)}" if resources.partition else ""
    root = shlex.quote(str(cluster.root))
    report = run_script(
        shell,
        f"""
        command -v sbatch >/dev/null || {{ echo no-slurm; exit; }}
        echo nodes $(sinfo -h -N {partition} -o %N 2>/dev/null | sort -u | wc -l)
        mkdir -p {root} 2>/dev/null && test -w {root} || echo no-root
        {_group_check(cluster)}
        {_software_check(cluster, resources)}
        """,
    ).split()
    if "no-slurm" in report:
        raise LaunchError(
            f"{shell.label} has no sbatch. Name a login node of the cluster as ssh takes it: "
            "SLURM_LOGIN=user@host"
        )
    nodes = int(report[1])
    problems = list(_problems(frozenset(report[2:]), cluster, resources))
    if nodes < resources.count:
        where = f"partition {resources.partition}" if partition else "the cluster"
        problems.insert(0, f"{where} has {nodes} nodes, and the job requests {resources.count}")
    if problems:
        raise LaunchError(f"{shell.label}: " + "; ".join(problems))


def _group_check(cluster: SlurmSettings) -> str:
    if not cluster.group:
        return ""
    group = shlex.quote(cluster.group)
    return f"""
        getent group {group} >/dev/null || echo no-group
        id -nG | tr ' ' '\\n' | grep -qxF {group} || echo no-member
    """


def _software_check(cluster: SlurmSettings, resources: Resources) -> str:
    if cluster.software == "container":
        file = shlex.quote(str(image_file(cluster, resources.image or cluster.image)))
        return f"""
        srun --help 2>/dev/null | grep -q -- --container-image || echo no-pyxis
        test -s {file} || echo no-image
        """
    if cluster.software == "environment":
        marker = shlex.quote(str(environment_folder(cluster) / "complete"))
        return f"test -e {marker} || echo no-environment"
    return f"command -v {shlex.quote(cluster.python)} >/dev/null || echo no-python"


def _problems(
    report: frozenset[str], cluster: SlurmSettings, resources: Resources
) -> Iterator[str]:
    """Yield what each finding means, and its fix."""
    image = resources.image or cluster.image
    option = f" IMAGE={resources.image}" if resources.image else ""
    if "no-group" in report:
        yield f"there is no group {cluster.group} on the node: {_LIFECYCLE_LOG}"
    elif "no-member" in report:
        yield (
            f"your user is no member of the group {cluster.group}, which owns {cluster.root}; add "
            "it to hyperpod.users, deploy, and replace or patch the node, or connect as ubuntu: "
            "make connect"
        )
    if "no-root" in report:
        fix = (
            _LIFECYCLE_LOG if cluster.group else "name a folder that all nodes share: SLURM_ROOT=…"
        )
        yield f"{cluster.root} cannot be written; {fix}"
    if "no-pyxis" in report:
        yield (
            "Slurm cannot start container images, because the nodes lack Enroot and Pyxis; name "
            "their packages in hyperpod.container_packages, or set hyperpod.software: environment, "
            "and deploy"
        )
    if "no-image" in report:
        yield (
            f"the image {image} is not imported to {image_file(cluster, image)}; import it: "
            f"{cluster.setup_command}{option}"
            if image
            else "the platform has no image that passed its scan: temper publish-image gpu"
        )
    if "no-environment" in report:
        yield (
            f"the Python environment of this version is not in {environment_folder(cluster)}; "
            f"build it: {cluster.setup_command}"
        )
    if "no-python" in report:
        yield (
            f"{cluster.python} does not exist; create an environment with our packages on the "
            "shared file system and name its Python: SLURM_PYTHON=…"
        )
