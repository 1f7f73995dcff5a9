"""First process in the namespaces of an emulated container: `python -m emulator.namespace_entry`.

`unshare` starts it in new namespaces. It mounts the job's folder at `/opt/ml`, sets the host name,
brings up the loopback interface, and replaces itself by the container's command. Its settings are
JSON on the command line.
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


def main(settings: dict[str, Any]) -> None:
    """Prepare the namespace and replace this process by the command."""
    _mount(Path(str(settings["ml"])), Path(str(settings["root"])))
    _mount_hosts_file(Path(str(settings["root"])), list(settings["hosts"]))
    socket.sethostname(str(settings["host"]))
    if settings["isolated"]:
        _bring_up_loopback()
    command = [str(part) for part in settings["command"]]
    environment = {str(k): str(v) for k, v in settings["environment"].items()}
    os.chdir(str(settings["cwd"]))
    os.execvpe(command[0], command, environment)


def _mount(ml: Path, root: Path) -> None:
    """Mount `ml` at /opt/ml, in this namespace only, and keep the rest of /opt.

    /opt may be read-only or lack `ml`, so a tmpfs replaces it and its folders are mounted back.
    """
    _run("mount", "--make-rprivate", "/")
    original = root / "opt-original"
    original.mkdir(exist_ok=True)
    _run("mount", "--rbind", "/opt", str(original))
    _run("mount", "-t", "tmpfs", "tmpfs", "/opt")
    for entry in original.iterdir():
        if entry.name == "ml" or entry.is_symlink() or not entry.is_dir():
            continue
        (Path("/opt") / entry.name).mkdir()
        _run("mount", "--rbind", str(entry), f"/opt/{entry.name}")
    Path("/opt/ml").mkdir()
    _run("mount", "--bind", str(ml), "/opt/ml")


def _mount_hosts_file(root: Path, hosts: list[str]) -> None:
    """Resolve the host names of the job, which are all this machine, by /etc/hosts."""
    names = "".join(f"127.0.0.1 {host}\n" for host in hosts)
    hosts_file = root / "hosts"
    hosts_file.write_text(f"127.0.0.1 localhost\n{names}", encoding="utf-8")
    _run("mount", "--bind", str(hosts_file), "/etc/hosts")


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | _IFF_UP))


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
