"""Contestant: Temper. `python -m benchmarks.evaluate.peers.temper_run MODEL FOLDER BATCH OUT`."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.evaluate.fixtures import SUITES

METHODS = ("log_likelihoods", "text_log_likelihoods", "generate")
METRICS = ("accuracy", "accuracy_norm", "bits_per_byte")


def main(model: str, folder: Path, batch_size: int, out: Path) -> None:
    """Evaluate the suites one after another, and write their times and metrics.

    Args:
        model: Folder of the model.
        folder: Folder of the suites and their items.
        batch_size: Sequences per forward pass.
        out: File of the results.
    """
    started = time.monotonic()
    # Modules that the command imports only when it needs them.
    for module in ("transformers", "evaluation.report.page", "evaluation.runner"):
        importlib.import_module(module)
    from evaluation.command import EvaluateOptions, run_evaluation
    from evaluation.models.transformers_model import TransformersModel
    from evaluation.results import read_results

    imported = time.monotonic()
    spent = dict.fromkeys(METHODS, 0.0)

    def timed(name: str) -> None:
        method = getattr(TransformersModel, name)

        def wrapper(*arguments: Any) -> Any:
            start = time.process_time()
            try:
                return method(*arguments)
            finally:
                spent[name] += time.process_time() - start

        setattr(TransformersModel, name, wrapper)

    for name in METHODS:
        timed(name)
    suites = {}
    for suite in SUITES:
        before = sum(spent.values())
        start, cpu = time.monotonic(), time.process_time()
        results = out.parent / f"{out.stem}-{suite}"
        path = folder / f"{suite}.yaml"
        run_evaluation(EvaluateOptions(model, path, None, results, batch_size))
        seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu
        tasks = {
            task: {name: outcome.metrics[name].value for name in METRICS if name in outcome.metrics}
            for task, outcome in read_results(results).tasks.items()
        }
        suites[suite] = {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "request_cpu_seconds": sum(spent.values()) - before,
            "tasks": tasks,
        }
    out.write_text(json.dumps({"import_seconds": imported - started, "suites": suites}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
