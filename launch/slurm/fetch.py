"""Atomic download of a run folder from a cluster."""

from __future__ import annotations

import shlex
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from shutil import rmtree

from launch.downloads import extract_archive
from launch.errors import LaunchError
from launch.slurm.shell import Shell


def fetch_files(
    shell: Shell, remote: PurePosixPath, local: Path, *, skip: Sequence[str], archive: bool
) -> list[Path]:
    """Download the entries of a remote folder into a local one, and return their paths.

    Args:
        shell: Shell of a machine that has the remote folder.
        remote: Remote folder.
        local: Existing local folder; entries of the same name are replaced.
        skip: Names and patterns that are not downloaded.
        archive: Pack the model as `model.tar.gz`.

    Raises:
        LaunchError: The transfer broke off, or a file would be written outside the local folder;
            nothing in that folder was changed.
    """
    excluded = " ".join(f"--exclude={shlex.quote(f'./{name}')}" for name in skip)
    partial = local / ".fetching"
    rmtree(partial, ignore_errors=True)
    process = subprocess.Popen(
        shell.command(f"cd {shlex.quote(str(remote))} && tar -czhf - {excluded} ."),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|gz") as packed:
            extract_archive(packed, partial, f"{remote} on {shell.label}")
    except (tarfile.TarError, EOFError, OSError) as error:
        rmtree(partial, ignore_errors=True)
        raise LaunchError(f"{remote} on {shell.label}: {error}. Fetch it again") from None
    finally:
        # A refused archive is not read to its end: closing the pipe ends the remote tar.
        process.stdout.close()
        process.wait()
    fetched = list(_move_into_place(partial, local, archive=archive))
    rmtree(partial)
    return fetched


def _move_into_place(partial: Path, local: Path, *, archive: bool) -> Iterator[Path]:
    for part in sorted(partial.iterdir()):
        to = local / part.name
        if archive and part.name == "model":
            to = local / "model.tar.gz"
            with tarfile.open(to, "w:gz") as packed:
                for inner in sorted(part.iterdir()):
                    packed.add(inner, inner.name)
        else:
            if to.is_symlink() or to.is_file():
                to.unlink()
            rmtree(to, ignore_errors=True)
            part.rename(to)
        yield to
