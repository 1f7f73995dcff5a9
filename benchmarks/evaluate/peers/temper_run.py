"""Contestant: Temper. `python -m benchmarks.evaluate.peers.temper_run MODEL FOLDER BATCH OUT`."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

METHODS = {
    "log_likelihoods": "multiple_choice",
    "text_log_likelihoods": "perplexity",
    "generate": "generation",
}
"""Kind of task by the method that computes it."""
METRICS = ("accuracy", "accuracy_norm", "bits_per_byte")


def main(model: str, folder: Path, batch_size: int, out: Path) -> None:
    """Evaluate the suite, and write times and metrics.

    Args:
        model: Folder of the model.
        folder: Folder of the suite and its items.
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
    spent = dict.fromkeys(METHODS.values(), 0.0)

    def timed(name: str) -> None:
        method = getattr(TransformersModel, name)

        def wrapper(*arguments: Any) -> Any:
            start = time.process_time()
            try:
                return method(*arguments)
            finally:
                spent[METHODS[name]] += time.process_time() - start

        setattr(TransformersModel, name, wrapper)

    for name in METHODS:
        timed(name)
    start, cpu = time.monotonic(), time.process_time()
    run_evaluation(
        EvaluateOptions(model, folder / "suite.yaml", None, out.parent / out.stem, batch_size)
    )
    results = {
        "import_seconds": imported - started,
        "seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - cpu,
        "request_cpu_seconds": spent,
        "tasks": {
            task: {name: outcome.metrics[name].value for name in METRICS if name in outcome.metrics}
            for task, outcome in read_results(out.parent / out.stem).tasks.items()
        },
    }
    out.write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
