"""Evaluate a model with lm-eval on an exported suite, and write the results.

    python -m tests.parity.lm_eval.run_exported MODEL_FOLDER EXPORTED_FOLDER RESULT.json GROUP…

A group whose name ends in `.chat` is asked through the chat template. Nothing of Temper is
imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(model: str, folder: str, out: Path, groups: list[str]) -> None:
    """Write the metrics of each task."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=folder, include_defaults=False)
    results = {}
    for group in groups:
        chat = group.endswith(".chat")
        output = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": model, "dtype": "float32"},
            tasks=[group],
            task_manager=manager,
            device="cpu",
            batch_size=4,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
        )
        for name, samples in output["samples"].items():
            metrics = {
                metric.partition(",")[0]: value
                for metric, value in output["results"][name].items()
                if isinstance(value, int | float) and "," in metric and "stderr" not in metric
            }
            answers = [sample["resps"][0][0] for sample in samples]
            results[name] = {"metrics": metrics, "answers": answers}
    out.write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
