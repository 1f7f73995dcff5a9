"""Software that executes jobs on the nodes of a Slurm cluster, and its installation on Lustre."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from launch.code_bundle import ROOT
from launch.errors import LaunchError
from launch.slurm.script import SlurmSettings
from launch.slurm.shell import Shell, copy_files, stream_script

LOCKS = ("constraints.txt", "containers/gpu/requirements.txt", "containers/gpu/deepspeed.txt")
"""Files that pin the packages of an environment, those of the image with their hashes."""
_ECR = re.compile(r"(?P<host>\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z.]+)/(?P<name>.+)")
_READY = "temper: software ready"


def environment_digest(root: Path = ROOT) -> str:
    """Return the digest of an environment's pinned packages, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in LOCKS:
        digest.update(name.encode() + b"\0" + (root / name).read_bytes())
    return digest.hexdigest()[:16]


def environment_folder(cluster: SlurmSettings) -> PurePosixPath:
    """Return the folder of this version's environment on the shared file system."""
    return cluster.root / "environments" / environment_digest()


def image_file(cluster: SlurmSettings, image: str) -> PurePosixPath:
    """Return the file that a container image is imported to, named for its address and digest."""
    name = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    digest = hashlib.sha256(image.encode()).hexdigest()[:16]
    return cluster.root / "images" / f"{name}-{digest}.sqsh"


def describe_software(cluster: SlurmSettings, image: str) -> str:
    """Return the line that says what a job runs in.

    Args:
        cluster: Settings of the cluster.
        image: Image of the job; empty for the platform's.
    """
    if cluster.software == "container":
        return f"in the container image {image or cluster.image}"
    if cluster.software == "environment":
        return f"in the Python environment {environment_folder(cluster)}"
    return f"with {cluster.python}"


def install_software(shell: Shell, cluster: SlurmSettings, image: str = "") -> Iterator[str]:
    """Import the image, or build the environment, on one compute node, and yield its output.

    Args:
        shell: Shell of a node with srun.
        cluster: Settings of the cluster.
        image: Image to import; empty for the platform's.

    Raises:
        LaunchError: The platform has no image, or a step failed.
    """
    if cluster.software == "container":
        script = _import_script(cluster, image or cluster.image)
    else:
        locks = environment_folder(cluster).with_suffix(".lock")
        copy_files(shell, [(ROOT / name, PurePosixPath(name).name) for name in LOCKS], locks)
        script = _environment_script(environment_folder(cluster), locks)
    step = (
        f"srun --nodes=1 --ntasks=1 --job-name=temper-software bash -c {shlex.quote(script)} 2>&1"
    )
    last = ""
    for line in stream_script(shell, step):
        if line != _READY:
            yield line
        last = line or last
    if last != _READY:
        raise LaunchError(f"the software of {shell.label} was not installed: {last or 'no output'}")


def _import_script(cluster: SlurmSettings, image: str) -> str:
    """Return the script that imports an image with the credentials of the node's role.

    Raises:
        LaunchError: There is no image.
    """
    if not image:
        raise LaunchError(
            "the environment has no image that passed its scan. Build one: "
            "temper publish-image gpu; or name one: --image"
        )
    target = image_file(cluster, image)
    found = _ECR.fullmatch(image)
    source, login = image, ""
    if found:
        source = f"{found['host']}#{found['name']}"
        token = f"$(aws ecr get-login-password --region {found['region']})"
        entry = f"machine {found['host']} login AWS password {token}"
        login = f'echo "{entry}" >"$ENROOT_CONFIG_PATH/.credentials"'
    return f"""
        set -e
        umask 077
        export ENROOT_CONFIG_PATH=$(mktemp -d)
        trap 'rm -rf "$ENROOT_CONFIG_PATH"' EXIT
        {login}
        if ! [ -s {target} ]; then
            rm -f {target}.$SLURM_JOB_ID
            enroot import --output {target}.$SLURM_JOB_ID {shlex.quote(f"docker://{source}")}
            chmod 644 {target}.$SLURM_JOB_ID
            mv {target}.$SLURM_JOB_ID {target}
        fi
        echo {shlex.quote(_READY)}
    """


def _environment_script(folder: PurePosixPath, locks: PurePosixPath) -> str:
    """Return the script that builds an environment once; an unfinished one is started over."""
    return f"""
        set -e
        exec 9>{folder}.building
        flock 9
        if ! [ -e {folder}/complete ]; then
            for python in python3.13 python3.12 python3.11 none; do
                ! command -v $python >/dev/null || break
            done
            if [ $python = none ]; then
                echo "the nodes have no Python 3.11 to 3.13; name an AMI that has: groups.image_id"
                exit 1
            fi
            rm -rf {folder}
            $python -m venv {folder}
            pip="{folder}/bin/python -m pip --disable-pip-version-check --quiet"
            $pip install "$(grep '^torch==' {locks}/constraints.txt)" -c {locks}/constraints.txt
            $pip install --require-hashes --no-deps --only-binary :all: -r {locks}/requirements.txt
            $pip install --require-hashes --no-deps --no-build-isolation -r {locks}/deepspeed.txt
            touch {folder}/complete
        fi
        echo {shlex.quote(_READY)}
    """
