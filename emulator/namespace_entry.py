"""Become a container, or as much of one as a private root is: `python -m emulator.namespace_entry`.

Runs in namespaces of its own (`unshare`): puts the job's folder at `/opt/ml`, names the host,
brings up the loopback, and becomes the container's command. What it is to do comes as JSON on the
command line.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def main(order: dict[str, Any]) -> None:
    """Prepare the namespace and replace this process by the command."""
    _mount(Path(str(order["ml"])), Path(str(order["root"])))
    _hosts(Path(str(order["root"])), list(order["hosts"]))
    socket.sethostname(str(order["host"]))
    if order["isolated"]:
        _raise_loopback()
    command = [str(part) for part in order["command"]]
    environment = {str(k): str(v) for k, v in order["environment"].items()}
    os.chdir(str(order["cwd"]))
    os.execvpe(command[0], command, environment)


def _mount(ml: Path, root: Path) -> None:
    """Put `ml` at /opt/ml and leave the rest of /opt as it is; nobody outside sees it."""
    _run("mount", "--make-rprivate", "/")
    before = root / "opt-before"
    before.mkdir(exist_ok=True)
    _run("mount", "--rbind", "/opt", str(before))
    _run("mount", "-t", "tmpfs", "tmpfs", "/opt")
    for entry in before.iterdir():
        if entry.name == "ml" or entry.is_symlink() or not entry.is_dir():
            continue
        (Path("/opt") / entry.name).mkdir()
        _run("mount", "--rbind", str(entry), f"/opt/{entry.name}")
    Path("/opt/ml").mkdir()
    _run("mount", "--bind", str(ml), "/opt/ml")


def _hosts(root: Path, hosts: list[str]) -> None:
    """Let the hosts of the job find each other by name; all are this machine."""
    names = "".join(f"127.0.0.1 {host}\n" for host in hosts)
    mine = root / "hosts"
    mine.write_text(f"127.0.0.1 localhost\n{names}", encoding="utf-8")
    _run("mount", "--bind", str(mine), "/etc/hosts")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | _IFF_UP))


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
