"""Process groups of finished runs are destroyed, with their threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.run_commands import ROOT

_CODE = """
import sys
import psutil
import torch
from training.trainer.distributed import ControlPlane, detect_world, init_process_group

world = detect_world()
init_process_group(world, zero=0)
counts = []
for _ in range(6):
    control = ControlPlane(world)
    assert control.all_gather(world.rank) == [0, 1]
    control.close()
    counts.append(psutil.Process().num_threads())
# The first group may start threads that are shared by all.
assert counts[-1] <= counts[1], counts
"""


@pytest.mark.slow
def test_threads_do_not_pile_up() -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("--no-python", sys.executable, "-c", _CODE),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
