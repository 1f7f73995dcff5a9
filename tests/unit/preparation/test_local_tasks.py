"""Tasks of a pass in several processes of this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from datatrove.pipeline.base import PipelineStep

from preparation.executors.local import LocalTasks
from training.errors import CrashError


class KilledStep(PipelineStep):
    """Step whose process is killed, as when memory runs out."""

    name = "Killed"
    type = "test"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Kill this process."""
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_preparation_with_a_message(tmp_path: Path) -> None:
    settings = {"tasks": 2, "workers": 1, "logging_dir": str(tmp_path)}
    with (
        LocalTasks(workers=2, most=2, lock=None) as tasks,
        pytest.raises(CrashError, match=r"a worker died without a message.*resumes"),
    ):
        list(tasks.run_ranks([KilledStep()], settings, [0, 1]))
