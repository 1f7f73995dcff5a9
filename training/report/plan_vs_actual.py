"""`plan.json` of a run: the prediction, and next to it what was measured."""

from __future__ import annotations

import json
import logging
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.report.formatting import duration, number
from training.run_folder import write_whole

logger = logging.getLogger(__name__)

_GIB = 2.0**30


def write_predicted(folder: Path, predict: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Write the prediction of a run to `plan.json`, unless an earlier start wrote one.

    Training goes ahead without a plan: an error of `predict` is returned, not raised.

    Returns:
        The prediction in the file; without one, the `problem` that prevented it.
    """
    document = _read(folder)
    if "predicted" not in document:
        try:
            document["predicted"] = predict()
        except Exception as error:
            logger.info("the run could not be planned", exc_info=True)
            return {"problem": str(error) or repr(error)}
        _write(folder, {**_read(folder), "predicted": document["predicted"]})
    predicted = document["predicted"]
    return dict(predicted) if isinstance(predicted, dict) else {}


def prediction_line(predicted: dict[str, Any]) -> str:
    """Return a prediction, or why there is none, as one line of text; empty without either."""
    if problem := predicted.get("problem"):
        return f"plan: none; the run could not be planned: {' '.join(str(problem).split())}"
    try:
        memory, hours = predicted["memory_gib"], predicted["hours"]
        line = f"plan: {number(memory['total'], 1)} of {number(memory['device'], 1)} GiB"
        span = f"{duration(hours['low'] * 3600)} to {duration(hours['high'] * 3600)}"
    except (KeyError, TypeError):
        return ""
    if memory["total"] > memory["device"]:
        line += ", more than the device has: expect an out-of-memory error"
    return f"{line}, {span}"


def write_measured(folder: Path, **facts: Any) -> None:
    """Write the memory and time that the run has used; the hours of earlier processes are added."""
    document = _read(folder)
    measured = document.get("measured", {})
    earlier = measured.get("hours_before", 0.0)
    if measured.get("process") not in (None, os.getpid()):
        earlier = measured.get("hours", 0.0)
    # Imported here: the parent process, which only predicts, never loads these.
    import psutil

    began = psutil.Process().create_time()
    document["measured"] = {
        **measured,
        "memory_gib": memory_gib(),
        "hours": round(earlier + (time.time() - began) / 3600, 5),
        "hours_before": earlier,
        "process": os.getpid(),
        **facts,
    }
    _write(folder, document)


def memory_gib() -> dict[str, float]:
    """Return the peak memory of this process in GiB: of its GPU, or of RAM on a CPU.

    On a GPU, `reserved` is the memory of PyTorch's allocator and `allocated` the part of it that
    tensors used. `total` adds what is outside the allocator, such as the CUDA context and NCCL.
    """
    import torch

    if not torch.cuda.is_available():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"total": round(peak / _GIB, 3)}
    free, whole = torch.cuda.mem_get_info()
    around = max(0, whole - free - torch.cuda.memory_reserved())
    return {
        "total": round((torch.cuda.max_memory_reserved() + around) / _GIB, 3),
        "reserved": round(torch.cuda.max_memory_reserved() / _GIB, 3),
        "allocated": round(torch.cuda.max_memory_allocated() / _GIB, 3),
    }


def _read(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _write(folder: Path, document: dict[str, Any]) -> None:
    write_whole(folder / "plan.json", json.dumps(document, indent=1) + "\n")
