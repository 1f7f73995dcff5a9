"""Shell of a login node: this machine itself, or a remote one over ssh.

HyperPod nodes are reached by ssh, too, tunnelled through Session Manager, so no port is open to
the internet.
"""

from __future__ import annotations

import shlex
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from launch.errors import LaunchError

_TIMEOUT_S = 120
_SSH_CANNOT_CONNECT = 255
_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")


class Shell(Protocol):
    """Machine on which scripts can be executed."""

    @property
    def label(self) -> str:
        """Name of the machine in messages."""

    def command(self, script: str) -> list[str]:
        """Return the local command that executes a script on the machine."""


class LocalShell:
    """Shell of this machine."""

    label = "this machine"

    def command(self, script: str) -> list[str]:
        """Return the command that executes a script on this machine."""
        return ["bash", "-c", script]


class SshShell:
    """Shell of a remote machine.

    Args:
        destination: Destination for ssh: `user@host`, or a host of the ssh configuration.
        options: Further options of ssh.
        hint: What to do if the machine cannot be reached.
    """

    def __init__(self, destination: str, options: Sequence[str] = (), hint: str = ""):
        self.label = destination
        self.hint = hint or f"Try: ssh {destination}"
        self._options = tuple(options)

    def command(self, script: str) -> list[str]:
        """Return the ssh command that executes a script on the remote machine."""
        return ["ssh", *_OPTIONS, *self._options, self.label, f"bash -c {shlex.quote(script)}"]


def run_script(shell: Shell, script: str, *, stdin: bytes | None = None) -> str:
    """Execute a bash script and return its output.

    Args:
        shell: Machine that executes it.
        script: Script for bash.
        stdin: Standard input of the script.

    Raises:
        LaunchError: The machine cannot be reached, or the script failed.
    """
    try:
        done = subprocess.run(
            shell.command(script),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise LaunchError(f"{error.filename} is not installed on this machine") from None
    except subprocess.TimeoutExpired:
        raise LaunchError(f"{shell.label} did not answer within {_TIMEOUT_S} s") from None
    message = done.stderr.decode(errors="replace").strip()
    if done.returncode == _SSH_CANNOT_CONNECT and isinstance(shell, SshShell):
        raise LaunchError(
            f"{shell.label} cannot be reached: {message or 'no reason given'}. {shell.hint}"
        )
    if done.returncode:
        raise LaunchError(f"{shell.label}: {message or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def stream_script(shell: Shell, script: str) -> Iterator[str]:
    """Execute a bash script and yield the lines of its output while they arrive."""
    process = subprocess.Popen(
        shell.command(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            yield line.decode(errors="replace").rstrip("\n")
    finally:
        process.kill()
        process.wait()


def copy_files(shell: Shell, files: Sequence[tuple[Path, str]], to: PurePosixPath) -> None:
    """Copy files into a remote folder that appears atomically; an existing folder is kept.

    The folder's name contains a digest of the content, so an existing one has the same files.

    Args:
        shell: Machine that has the folder.
        files: Local files, each with its path relative to the folder.
        to: Remote folder.

    Raises:
        LaunchError: The files cannot be written.
    """
    place = shlex.quote(str(to))
    if run_script(shell, f"test -d {place} && echo exists || true").strip():
        return
    partial = shlex.quote(f"{to}.copying")
    script = f"set -e; rm -rf {partial}; mkdir -p {partial}; tar -xf - -C {partial}"
    process = subprocess.Popen(shell.command(script), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None and process.stderr is not None
    with suppress(BrokenPipeError):  # the remote tar failed, and its standard error says why
        _pack(files, process.stdin)
    message = process.stderr.read().decode(errors="replace").strip()
    if process.wait():
        raise LaunchError(f"copying to {to} on {shell.label}: {message}")
    # Another user may have copied the same content meanwhile; then theirs stays.
    run_script(shell, f"mv -T {partial} {place} 2>/dev/null || rm -rf {partial}")


def _pack(files: Sequence[tuple[Path, str]], out: IO[bytes]) -> None:
    with out, tarfile.open(fileobj=out, mode="w|") as archive:
        for file, name in files:
            archive.add(file, name, recursive=False)


def write_file(shell: Shell, path: PurePosixPath, text: str) -> None:
    """Write a remote file atomically, and create its folder if needed.

    Args:
        shell: Machine that has the file.
        path: Path of the file.
        text: Content of the file.
    """
    place = shlex.quote(str(path))
    folder = shlex.quote(str(path.parent))
    script = f"set -e; mkdir -p {folder}; cat > {place}.writing; mv {place}.writing {place}"
    run_script(shell, script, stdin=text.encode())
