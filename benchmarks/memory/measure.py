"""Run one configuration as Temper trains it, each process fresh, and say what it held at most.

The processes are forked from one that has loaded the libraries and nothing else, which spares each
of them ten seconds.
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
_LONGEST_S = 1800


def measure(case: Case, material: Path, folder: Path) -> dict[str, Any]:
    """Bytes that the fullest of a configuration's processes held at its fullest instant.

    Raises:
        RuntimeError: It ended in an error, with the end of its log.
    """
    from training.config import Job
    from training.config.load import parse_job
    from training.run_folder import RunFolder

    shutil.rmtree(folder, ignore_errors=True)
    job = parse_job(case.job(material), case.name)
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
        worker.join(_LONGEST_S)
        worker.kill()
    found = [_read(folder, rank) for rank in range(case.processes)]
    return max(found, key=lambda one: one["peak"])


def _work(folder: Path, rank: int, world: int, port: int) -> None:
    """One training process: the worker's own way, watched."""
    log = os.open(folder / f"said-{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if world > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in {**place, **address}.items()})
    import torch
    from transformers import trainer

    from benchmarks.memory.allocator import AllocatorCallback, let_sender_go_first
    from training.pipeline import run
    from training.run_folder import RunFolder

    def done(found: dict[str, int]) -> None:
        (folder / f"peak-{rank}.json").write_text(json.dumps(found))
        if world > 1:
            torch.distributed.barrier()
        os._exit(0)

    torch.set_num_threads(1)
    let_sender_go_first()
    trainer.DEFAULT_CALLBACKS.append(AllocatorCallback(done))
    run(RunFolder(folder))


def _read(folder: Path, rank: int) -> dict[str, Any]:
    try:
        found = json.loads((folder / f"peak-{rank}.json").read_text())
    except OSError:
        said = (folder / f"said-{rank}.log").read_text().strip()
        raise RuntimeError(said[-2000:]) from None
    return dict(found)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
