"""Commands on a login node: this machine itself, or one that is reached by ssh.

A HyperPod node is reached by ssh, too, through Session Manager; then no port is open to anybody.
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
_CANNOT_CONNECT = 255
_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")


class Shell(Protocol):
    """A place where commands are run."""

    @property
    def where(self) -> str:
        """What to call it in messages."""

    def command(self, script: str) -> list[str]:
        """Return what runs a script there."""


class Here:
    """This machine."""

    where = "this machine"

    def command(self, script: str) -> list[str]:
        """Return what runs a script here."""
        return ["bash", "-c", script]


class Ssh:
    """Another machine.

    Args:
        destination: As ssh takes it: `user@host`, or a name of your ssh configuration.
        options: Further options of ssh.
    """

    def __init__(self, destination: str, options: Sequence[str] = ()):
        self.where = destination
        self._options = tuple(options)

    @classmethod
    def through_session_manager(cls, user: str, target: str, region: str) -> Ssh:
        """Reach a HyperPod node through Session Manager.

        Args:
            user: On the node.
            target: `sagemaker-cluster:<cluster id>_<group>-<instance id>`.
            region: Of the cluster.
        """
        proxy = (
            f"aws ssm start-session --target {target} --region {region} "
            "--document-name AWS-StartSSHSession --parameters portNumber=%p"
        )
        name = target.rpartition("_")[2]
        return cls(f"{user}@{name}", ("-o", f"ProxyCommand={proxy}"))

    def command(self, script: str) -> list[str]:
        """Return what runs a script there."""
        return ["ssh", *_OPTIONS, *self._options, self.where, f"bash -c {shlex.quote(script)}"]


def run(shell: Shell, script: str, *, feed: bytes | None = None) -> str:
    """Run a script and return what it printed.

    Args:
        shell: Where.
        script: For bash.
        feed: Given to it on standard input.

    Raises:
        LaunchError: The place cannot be reached, or the script failed there.
    """
    try:
        done = subprocess.run(
            shell.command(script),
            input=feed,
            stdin=subprocess.DEVNULL if feed is None else None,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise LaunchError(f"{error.filename} is not installed on this machine") from None
    except subprocess.TimeoutExpired:
        raise LaunchError(f"{shell.where} did not answer within {_TIMEOUT_S} s") from None
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == _CANNOT_CONNECT and not isinstance(shell, Here):
        raise LaunchError(
            f"{shell.where} cannot be reached: {said or 'no reason given'}. Try: ssh {shell.where}"
        )
    if done.returncode:
        raise LaunchError(f"{shell.where}: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def stream(shell: Shell, script: str) -> Iterator[str]:
    """Run a script and yield its lines as they come; ends with the script."""
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


def copy(shell: Shell, files: Sequence[tuple[Path, str]], to: PurePosixPath) -> None:
    """Copy files into a folder there that comes into being whole; one that is there stays.

    Args:
        shell: Where.
        files: Each with its place below the folder.
        to: The folder.
    """
    place = shlex.quote(str(to))
    if run(shell, f"test -d {place} && echo there || true").strip():
        return
    building = shlex.quote(f"{to}.copying")
    script = f"set -e; rm -rf {building}; mkdir -p {building}; tar -xf - -C {building}"
    process = subprocess.Popen(shell.command(script), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None and process.stderr is not None
    with suppress(BrokenPipeError):  # what went wrong there is said on its standard error
        _pack(files, process.stdin)
    said = process.stderr.read().decode(errors="replace").strip()
    if process.wait():
        raise LaunchError(f"copying to {to} on {shell.where}: {said}")
    run(shell, f"mv -T {building} {place} 2>/dev/null || rm -rf {building}")


def _pack(files: Sequence[tuple[Path, str]], out: IO[bytes]) -> None:
    with out, tarfile.open(fileobj=out, mode="w|") as archive:
        for file, name in files:
            archive.add(file, name, recursive=False)


def write(shell: Shell, path: PurePosixPath, text: str) -> None:
    """Write a file there, whole."""
    place = shlex.quote(str(path))
    folder = shlex.quote(str(path.parent))
    script = f"set -e; mkdir -p {folder}; cat > {place}.writing; mv {place}.writing {place}"
    run(shell, script, feed=text.encode())
