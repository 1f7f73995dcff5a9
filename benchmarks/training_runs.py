"""Training of one job in a separate process, with measurements.

The processes are forked from a server that has only imported the libraries, which saves ten seconds
for each.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared/data"
_PRELOADED = [
    "training.pipeline",
    *(f"training.methods.{name}" for name in ("sft", "pretrain", "distill", "distill_text")),
]


def train(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train a job, unless its folder has measurements, and return them.

    Args:
        document: The job.
        folder: Its run folder.

    Returns:
        `trained` (number of parameters), `frozen_bytes` of the other parameters, `gradient_bytes`,
        `optimizer_bytes`, `peak_bytes` of the process, `ready_bytes` (its memory before the job),
        `step_s` (median CPU seconds of a step) and `evaluation`.

    Raises:
        SystemExit: Training failed; the message is the end of its log.
    """
    from training.config.load import parse_job
    from training.run_folder import RunFolder

    results = folder / "measured.json"
    if not results.exists():
        RunFolder.create(folder, parse_job(document, document["name"]))
        start = multiprocessing.get_context("forkserver")
        start.set_forkserver_preload(_PRELOADED)
        worker = start.Process(target=_work, args=(folder,))
        worker.start()
        worker.join()
        if not (folder / "process.json").exists():
            log = (folder / "output.log").read_text()
            raise SystemExit(f"{folder} failed:\n{log[-3000:]}")
        measured = json.loads((folder / "process.json").read_text())
        if (folder / "evaluation.json").exists():
            measured["evaluation"] = json.loads((folder / "evaluation.json").read_text())
        results.write_text(json.dumps(measured))
    return dict(json.loads(results.read_text()))


def _work(folder: Path) -> None:
    """Train as a worker process does, with a callback that measures it."""
    log = os.open(folder / "output.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import torch
    from transformers import TrainerCallback, trainer

    from training.pipeline import run
    from training.run_folder import RunFolder

    class StepMonitor(TrainerCallback):
        """Callback that records when steps end and the memory held between them."""

        def __init__(self) -> None:
            self.ends: list[float] = []
            self.held: dict[str, int] = {}

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.ends.append(time.process_time())
            if len(self.ends) == 1:
                self.held = _held(more["model"], more["optimizer"])

    torch.set_num_threads(1)
    ready, monitor = _peak_bytes(), StepMonitor()
    trainer.DEFAULT_CALLBACKS.append(monitor)
    run(RunFolder(folder))
    if not monitor.ends:
        # The job wrote rows (distill_text) and trained nothing.
        (folder / "process.json").write_text("{}")
        os._exit(0)
    measured = {
        **monitor.held,
        "ready_bytes": ready,
        "peak_bytes": _peak_bytes(),
        "step_s": statistics.median(b - a for a, b in itertools.pairwise(monitor.ends)),
    }
    (folder / "process.json").write_text(json.dumps(measured))
    os._exit(0)


def _held(model: Any, optimizer: Any) -> dict[str, int]:
    """Return the bytes of frozen weights, gradients and optimizer states."""
    import torch

    trained = [p for group in optimizer.param_groups for p in group["params"]]
    trained_ids = {id(p) for p in trained}
    frozen = [p for p in model.parameters() if id(p) not in trained_ids]
    states = [t for state in optimizer.state.values() for t in state.values()]
    return {
        "trained": sum(p.numel() for p in trained),
        "frozen_bytes": weight_bytes(frozen),
        "gradient_bytes": _bytes(trained),
        "optimizer_bytes": _bytes(t for t in states if isinstance(t, torch.Tensor)),
    }


def weight_bytes(weights: Iterable[Any]) -> int:
    """Return the bytes of weights, including the block scales of 4-bit weights."""
    weights = list(weights)
    packed = [p.quant_state for p in weights if getattr(p, "quant_state", None) is not None]
    scales = [t for state in packed for t in state.as_dict(packed=True).values()]
    return _bytes([*weights, *scales])


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
