"""One job in a process of its own, and what it left behind.

The processes are forked from one that has loaded the libraries and nothing else, which spares each
of them ten seconds.
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
    """Train a job to its end, unless that was done, and return what was measured.

    Args:
        document: The job.
        folder: Its run folder.

    Returns:
        `trained` parameters, `frozen_bytes` of those that are not, `gradient_bytes`,
        `optimizer_bytes`, `peak_bytes` of the process, `ready_bytes`, which it held before the job;
        `step_s` of the processor, the median; and `evaluation`.

    Raises:
        SystemExit: It failed, with the end of its log.
    """
    from training.config.load import parse_job
    from training.run_folder import RunFolder

    kept = folder / "measured.json"
    if not kept.exists():
        RunFolder.create(folder, parse_job(document, document["name"]))
        start = multiprocessing.get_context("forkserver")
        start.set_forkserver_preload(_PRELOADED)
        worker = start.Process(target=_work, args=(folder,))
        worker.start()
        worker.join()
        if not (folder / "held.json").exists():
            said = (folder / "said.log").read_text()
            raise SystemExit(f"{folder} failed:\n{said[-3000:]}")
        found = json.loads((folder / "held.json").read_text())
        if (folder / "evaluation.json").exists():
            found["evaluation"] = json.loads((folder / "evaluation.json").read_text())
        kept.write_text(json.dumps(found))
    measured: dict[str, Any] = json.loads(kept.read_text())
    return measured


def _work(folder: Path) -> None:
    """The worker's own way, watched."""
    log = os.open(folder / "said.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import torch
    from transformers import TrainerCallback, trainer

    from training.pipeline import run
    from training.run_folder import RunFolder

    class Watch(TrainerCallback):
        """Notes when steps end, and what is held between them."""

        def __init__(self) -> None:
            self.ends: list[float] = []
            self.held: dict[str, int] = {}

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.ends.append(time.process_time())
            if len(self.ends) == 1:
                self.held = _held(more["model"], more["optimizer"])

    torch.set_num_threads(1)
    ready, watch = _peak_bytes(), Watch()
    trainer.DEFAULT_CALLBACKS.append(watch)
    run(RunFolder(folder))
    if not watch.ends:
        # It wrote rows, and trained nothing.
        (folder / "held.json").write_text("{}")
        os._exit(0)
    found = {
        **watch.held,
        "ready_bytes": ready,
        "peak_bytes": _peak_bytes(),
        "step_s": statistics.median(b - a for a, b in itertools.pairwise(watch.ends)),
    }
    (folder / "held.json").write_text(json.dumps(found))
    os._exit(0)


def _held(model: Any, optimizer: Any) -> dict[str, int]:
    """Return bytes of weights, gradients and optimizer states."""
    import torch

    learned = [p for group in optimizer.param_groups for p in group["params"]]
    among = {id(p) for p in learned}
    frozen = [p for p in model.parameters() if id(p) not in among]
    states = [t for state in optimizer.state.values() for t in state.values()]
    return {
        "trained": sum(p.numel() for p in learned),
        "frozen_bytes": weight_bytes(frozen),
        "gradient_bytes": _bytes(learned),
        "optimizer_bytes": _bytes(t for t in states if isinstance(t, torch.Tensor)),
    }


def weight_bytes(weights: Iterable[Any]) -> int:
    """Return the bytes of weights; those in 4 bits bring the scales of their blocks."""
    held = list(weights)
    packed = [p.quant_state for p in held if getattr(p, "quant_state", None) is not None]
    scales = [t for state in packed for t in state.as_dict(packed=True).values()]
    return _bytes([*held, *scales])


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
