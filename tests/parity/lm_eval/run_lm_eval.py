"""Evaluate a model with lm-eval on the tasks of `suite.yaml`, and write what it gives.

    python -m tests.parity.lm_eval.run_lm_eval MODEL_FOLDER RESULT.json

The interpreter needs lm-eval 0.4.13 with its extra `hf`; the tests have one of their own for it.
Nothing of Temper is imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
_KINDS = {
    "multiple_choice": "multiple_choice",
    "perplexity": "loglikelihood_rolling",
    "generation": "generate_until",
}
_METRICS = {
    "multiple_choice": ["acc", "acc_norm", "brier_score"],
    "perplexity": ["word_perplexity", "byte_perplexity", "bits_per_byte"],
    "generation": ["bypass"],
}


def lm_eval_task(task: dict[str, Any]) -> dict[str, Any]:
    """Return a task of the suite in the form of lm-eval."""
    files = {"test": str(HERE / task["data"])}
    kind = task["kind"]
    config: dict[str, Any] = {
        "task": task["name"],
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        "output_type": _KINDS[kind],
        "metric_list": [{"metric": name} for name in _METRICS[kind]],
        "num_fewshot": 0,
    }
    if kind == "perplexity":
        return {**config, "doc_to_text": "", "doc_to_target": task["text"]}
    config |= {"doc_to_text": task["prompt"], "doc_to_target": task["target"]}
    if kind == "generation":
        settings = {"until": task["stop"], "max_gen_toks": task["max_new_tokens"]}
        return {**config, "generation_kwargs": {**settings, "do_sample": False}}
    config |= {
        "doc_to_choice": task["choices"],
        "target_delimiter": task.get("target_delimiter", " "),
    }
    if "few_shot" in task:
        files["dev"] = str(HERE / task["few_shot"]["data"])
        config |= {
            "num_fewshot": task["few_shot"]["count"],
            "fewshot_split": "dev",
            "fewshot_config": {"sampler": "first_n"},
        }
    return config


def main(model: str, out: Path) -> None:
    """Write the results of a model."""
    import lm_eval

    suite = yaml.safe_load((HERE / "suite.yaml").read_text(encoding="utf-8"))
    output = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": model, "dtype": "float32"},
        tasks=[lm_eval_task(task) for task in suite["tasks"]],
        device="cpu",
        batch_size=4,
        bootstrap_iters=0,
    )
    results = {
        task["name"]: {
            "metrics": {
                name.partition(",")[0]: value
                for name, value in output["results"][task["name"]].items()
                if isinstance(value, float) and "stderr" not in name
            },
            "replies": [_replies(sample) for sample in output["samples"][task["name"]]],
        }
        for task in suite["tasks"]
    }
    document = {"lm_eval": lm_eval.__version__, "tasks": results}
    out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _replies(sample: dict[str, Any]) -> list[Any]:
    """Return the log-likelihood of each choice or of a text, or the answer."""
    return [reply[0][0] if isinstance(reply[0], tuple) else reply[0] for reply in sample["resps"]]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
