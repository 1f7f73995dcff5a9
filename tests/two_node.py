"""Two processes of one group that live as long as a whole list of jobs takes.

Starting two costs more than a tiny job does: `train_in_pair` starts them once for many jobs.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.run_commands import ROOT, Run

_PATIENCE_S = 180
"""A tiny job takes seconds; beside other tests on a busy machine, many."""
_LAST_WORDS_S = 5


def train_in_pair(documents: Mapping[str, dict[str, Any]], home: Path) -> dict[str, Run]:
    """Train jobs one after the other in the same two processes, each in a folder of its name."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "jobs.json").write_text(json.dumps(dict(documents)))
    codes, said = run_pair(["tests.two_node", str(home)], home)
    assert codes == [0, 0], said
    return {name: Run(home / name) for name in documents}


def run_pair(command: list[str], home: Path) -> tuple[list[int], str]:
    """Run `python -m COMMAND` in two processes of one group.

    Args:
        command: A module and its arguments.
        home: Where their logs go; whatever is written there counts as a sign of life.

    Returns:
        Their exit codes, and their last words.
    """
    port = _free_port()
    logs = [home / f"rank-{rank}.log" for rank in (0, 1)]
    pair = []
    for rank, log in enumerate(logs):
        variables = {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        with log.open("w") as out:
            pair.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command],
                    cwd=ROOT,
                    env={**os.environ, **variables},
                    stdout=out,
                    stderr=out,
                )
            )
    _wait(pair, home)
    said = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs)
    return [process.returncode for process in pair], said


def _wait(pair: list[subprocess.Popen[bytes]], home: Path) -> None:
    """Wait for both to end; end them when one has failed, or nothing is written for long."""
    seen, deadline = 0.0, time.monotonic() + _PATIENCE_S
    while any(process.poll() is None for process in pair):
        time.sleep(0.1)
        latest = max(path.stat().st_mtime for path in [home, *home.iterdir()] if path.exists())
        if latest != seen:
            seen, deadline = latest, time.monotonic() + _PATIENCE_S
        if any(process.poll() not in (None, 0) for process in pair):
            # The other may have something to say of its own.
            deadline = min(deadline, time.monotonic() + _LAST_WORDS_S)
        if time.monotonic() > deadline:
            for process in pair:
                process.kill()
    for process in pair:
        process.wait()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _main(home: Path) -> None:
    """Train what is in `jobs.json`, as one of the two."""
    import torch.distributed as dist

    from training.config.load import parse_job
    from training.pipeline import run
    from training.run_folder import RunFolder
    from training.trainer.distributed import detect_world, init_process_group

    world = detect_world()
    init_process_group(world, zero=0)
    for name, document in json.loads((home / "jobs.json").read_text()).items():
        if world.is_main_process:
            RunFolder.create(home / name, parse_job(document, "test"))
        dist.barrier()
        run(RunFolder(home / name))
        dist.barrier()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
