"""Two processes of one process group that train a list of jobs.

Starting two processes takes longer than a tiny job: `train_in_pair` starts them once for many.
"""

from __future__ import annotations

import functools
import gc
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

_TIMEOUT_S = 600
"""A tiny job takes seconds, but many of them on a machine that runs other tests."""
_EXIT_GRACE_S = 5


def train_in_pair(documents: Mapping[str, dict[str, Any]], home: Path) -> dict[str, Run]:
    """Train jobs in sequence in the same two processes, each in a folder of its name.

    A job whose folder has checkpoints is resumed from them. Jobs may differ in their ZeRO stage.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "jobs.json").write_text(json.dumps(dict(documents)))
    codes, logs = run_pair(["tests.two_node", str(home)], home)
    assert codes == [0, 0], logs
    return {name: Run(home / name) for name in documents}


def run_pair(command: list[str], home: Path) -> tuple[list[int], str]:
    """Run `python -m COMMAND` in two processes of one group.

    Args:
        command: Module and its arguments.
        home: Folder of the logs; every write to it restarts the timeout.

    Returns:
        The exit codes, and the end of the logs.
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
    ends = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs)
    return [process.returncode for process in pair], ends


def _wait(pair: list[subprocess.Popen[bytes]], home: Path) -> None:
    """Wait for both to end; kill them if one has failed or nothing is written for long."""
    seen, deadline = 0.0, time.monotonic() + _TIMEOUT_S
    while any(process.poll() is None for process in pair):
        time.sleep(0.1)
        latest = max(path.stat().st_mtime for path in [home, *home.iterdir()] if path.exists())
        if latest != seen:
            seen, deadline = latest, time.monotonic() + _TIMEOUT_S
        if any(process.poll() not in (None, 0) for process in pair):
            # The other may fail, too, with a message of its own.
            deadline = min(deadline, time.monotonic() + _EXIT_GRACE_S)
        if time.monotonic() > deadline:
            for process in pair:
                process.kill()
    for process in pair:
        process.wait()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def forget_deepspeed() -> None:
    """Undo what a run with ZeRO leaves in its process, so that the next may have another stage."""
    import torch
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    gc.collect()
    # Accelerate leaves it behind, and a run without ZeRO would then have ZeRO 2.
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    # Else the first process, loading what was saved, would wait for the other to take its part.
    unset_hf_deepspeed_config()
    # ZeRO 3 replaces it, for as long as a process lives.
    torch.nn.functional.linear = linear()


@functools.cache
def linear() -> Any:
    """Return torch's linear function; the first call must come before any run."""
    import torch

    return torch.nn.functional.linear


def _main(home: Path) -> None:
    """Train the jobs of `jobs.json` as one of the two processes."""
    import torch.distributed as dist
    from accelerate.state import AcceleratorState, DistributedType

    from training.config import Job
    from training.config.load import parse_job
    from training.pipeline import run
    from training.run_folder import RunFolder
    from training.trainer.distributed import detect_world, init_process_group

    world = detect_world()
    init_process_group(world, zero=0)
    linear()
    for name, document in json.loads((home / "jobs.json").read_text()).items():
        job = parse_job(document, "test")
        assert isinstance(job, Job)
        if world.is_main_process:
            RunFolder.create(home / name, job)
        dist.barrier()
        run(RunFolder(home / name))
        sharded = AcceleratorState().distributed_type == DistributedType.DEEPSPEED
        assert sharded == (job.sharding.zero > 0), "trained as another job is"
        forget_deepspeed()
        dist.barrier()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
