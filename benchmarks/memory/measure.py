"""Measurement of one configuration: Temper trains it in new processes that record their peak.

The processes are forked from a server that has only imported the libraries, which saves ten seconds
for each.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
from pathlib import Path
from typing import Any

from benchmarks.memory.cases import Case

_PRELOADED = [
    *("benchmarks.memory.allocator", "training.pipeline", "deepspeed"),
    *(f"training.methods.{name}" for name in ("sft", "reward", "dpo", "kto", "orpo", "grpo")),
]
_TIMEOUT_S = 1800


def measure(case: Case, fixtures: Path, folder: Path) -> dict[str, Any]:
    """Return the peak bytes of the process that holds the most.

    Args:
        case: The configuration.
        fixtures: The folder of models and rows.
        folder: The run folder; replaced.

    Raises:
        RuntimeError: Training failed; the message is the end of its log.
    """
    from training.config import Job
    from training.config.load import parse_job
    from training.run_folder import RunFolder

    shutil.rmtree(folder, ignore_errors=True)
    job = parse_job(case.job(fixtures), case.name)
    assert isinstance(job, Job)
    RunFolder.create(folder, job)
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(_PRELOADED)
    port = _free_port()
    workers = [
        start.Process(target=_work, args=(folder, rank, case.processes, port))
        for rank in range(case.processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(_TIMEOUT_S)
        worker.kill()
    peaks = [_read(folder, rank) for rank in range(case.processes)]
    return max(peaks, key=lambda measured: measured["peak"])


def _work(folder: Path, rank: int, world: int, port: int) -> None:
    """Train as a worker process does, with the allocator callback."""
    log = os.open(folder / f"output-{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if world > 1:
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in {**ranks, **address}.items()})
    import torch
    from transformers import trainer

    from benchmarks.memory.allocator import AllocatorCallback, delay_collectives
    from training.pipeline import run
    from training.run_folder import RunFolder

    def done(measured: dict[str, int]) -> None:
        (folder / f"peak-{rank}.json").write_text(json.dumps(measured))
        if world > 1:
            torch.distributed.barrier()
        os._exit(0)

    torch.set_num_threads(1)
    delay_collectives()
    trainer.DEFAULT_CALLBACKS.append(AllocatorCallback(done))
    run(RunFolder(folder))


def _read(folder: Path, rank: int) -> dict[str, Any]:
    try:
        measured = json.loads((folder / f"peak-{rank}.json").read_text())
    except OSError:
        log = (folder / f"output-{rank}.log").read_text().strip()
        raise RuntimeError(log[-2000:]) from None
    return dict(measured)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
