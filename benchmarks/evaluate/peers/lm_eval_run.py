"""Contestant: lm-eval. `python lm_eval_run.py MODEL FOLDER BATCH OUT`.

Nothing of Temper is imported: the interpreter needs lm-eval 0.4.13 with its extra `hf`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml

_METHODS = {
    "loglikelihood": "multiple_choice",
    "loglikelihood_rolling": "perplexity",
    "generate_until": "generation",
}
"""Kind of task by the method that computes it."""
_KINDS = {
    "multiple_choice": ("multiple_choice", ["acc", "acc_norm"]),
    "perplexity": (
        "loglikelihood_rolling",
        ["word_perplexity", "byte_perplexity", "bits_per_byte"],
    ),
    "generation": ("generate_until", ["exact_match"]),
}
_NAMES = {"acc": "accuracy", "acc_norm": "accuracy_norm", "bits_per_byte": "bits_per_byte"}


def lm_eval_task(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a task of a suite in the form of lm-eval.

    Args:
        task: The task.
        folder: Folder of its items.
    """
    output_type, metrics = _KINDS[task["kind"]]
    config: dict[str, Any] = {
        "task": task["name"],
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / task["data"])}},
        "test_split": "test",
        "output_type": output_type,
        "metric_list": [{"metric": name} for name in metrics],
        "num_fewshot": 0,
    }
    if task["kind"] == "perplexity":
        return {**config, "doc_to_text": "", "doc_to_target": task["text"]}
    config |= {"doc_to_text": task["prompt"], "doc_to_target": task["target"]}
    if task["kind"] == "generation":
        settings = {"until": task["stop"], "max_gen_toks": task["max_new_tokens"]}
        return {**config, "generation_kwargs": {**settings, "do_sample": False}}
    return {**config, "doc_to_choice": task["choices"]}


def main(model: str, folder: Path, batch_size: int, out: Path) -> None:
    """Evaluate the suite, and write times and metrics.

    Args:
        model: Folder of the model.
        folder: Folder of the suite and its items.
        batch_size: Sequences per forward pass.
        out: File of the results.
    """
    started = time.monotonic()
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    imported = time.monotonic()
    spent = dict.fromkeys(_METHODS.values(), 0.0)

    def timed(name: str) -> None:
        method = getattr(HFLM, name)

        def wrapper(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return method(*arguments, **options)
            finally:
                spent[_METHODS[name]] += time.process_time() - start

        setattr(HFLM, name, wrapper)

    for name in _METHODS:
        timed(name)
    start, cpu = time.monotonic(), time.process_time()
    tasks = yaml.safe_load((folder / "suite.yaml").read_text(encoding="utf-8"))["tasks"]
    output = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": model, "dtype": "float32"},
        tasks=[lm_eval_task(task, folder) for task in tasks],
        device="cpu",
        batch_size=batch_size,
        bootstrap_iters=0,
    )
    results = {
        "import_seconds": imported - started,
        "seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - cpu,
        "request_cpu_seconds": spent,
        "tasks": {task["name"]: _metrics(output["results"][task["name"]]) for task in tasks},
    }
    out.write_text(json.dumps(results))


def _metrics(results: dict[str, Any]) -> dict[str, float]:
    values = {name.partition(",")[0]: value for name, value in results.items()}
    return {ours: values[name] for name, ours in _NAMES.items() if name in values}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
