"""Containers of an emulator that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.run_commands import ROOT

EMULATOR = """
import sys, threading
from pathlib import Path
from emulator.instance import ContainerSpec, NamespaceRuntime

root = Path(sys.argv[1])
(root / "ml").mkdir()
spec = ContainerSpec(root / "ml", root, "algo-1", ("algo-1",), {}, True, "image", "job", ("60",))
runtime, started = NamespaceRuntime(("sh", "-c", "echo up; exec sleep $0")), []
thread = threading.Thread(target=lambda: started.append(runtime.start(spec)))
thread.start()
thread.join()
started[0].stdout.readline()
children = Path(f"/proc/{started[0].pid}/task/{started[0].pid}/children").read_text()
print(children, flush=True)
sys.stdin.read()
"""


def runs(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_container_outlives_the_thread_that_started_it_and_not_a_killed_emulator(
    tmp_path: Path,
) -> None:
    emulator = subprocess.Popen(
        [sys.executable, "-c", EMULATOR, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert emulator.stdout is not None
    container = int(emulator.stdout.readline())
    assert runs(container)
    emulator.send_signal(signal.SIGKILL)
    emulator.communicate()
    until = time.monotonic() + 10
    while runs(container) and time.monotonic() < until:
        time.sleep(0.01)
    assert not runs(container)
