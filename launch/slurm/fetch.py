"""Bringing a run's files from a cluster, whole or not at all."""

from __future__ import annotations

import shlex
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from shutil import rmtree

from launch.errors import LaunchError
from launch.slurm.shell import Shell


def fetch_files(
    shell: Shell, there: PurePosixPath, here: Path, *, skip: Sequence[str], archive: bool
) -> list[Path]:
    """Copy a folder from there into one here, and return what came.

    Args:
        shell: Where it is.
        there: The folder.
        here: An existing folder; what has the same name in it is replaced.
        skip: Names and patterns that stay.
        archive: Pack the model as `model.tar.gz`.

    Raises:
        LaunchError: It broke off; nothing here was changed.
    """
    excluded = " ".join(f"--exclude={shlex.quote(f'./{name}')}" for name in skip)
    building = here / ".fetching"
    rmtree(building, ignore_errors=True)
    process = subprocess.Popen(
        shell.command(f"cd {shlex.quote(str(there))} && tar -czhf - {excluded} ."),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|gz") as packed:
            packed.extractall(building, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        rmtree(building, ignore_errors=True)
        raise LaunchError(f"{there} on {shell.where}: {error}. Fetch it again") from None
    finally:
        process.wait()
    came = list(_take_in(building, here, archive=archive))
    rmtree(building)
    return came


def _take_in(building: Path, here: Path, *, archive: bool) -> Iterator[Path]:
    for part in sorted(building.iterdir()):
        to = here / part.name
        if archive and part.name == "model":
            to = here / "model.tar.gz"
            with tarfile.open(to, "w:gz") as packed:
                for inner in sorted(part.iterdir()):
                    packed.add(inner, inner.name)
        else:
            if to.is_symlink() or to.is_file():
                to.unlink()
            rmtree(to, ignore_errors=True)
            part.rename(to)
        yield to
