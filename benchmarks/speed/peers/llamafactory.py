"""LLaMA-Factory with packing that does not attend across documents, in a separate environment.

It pins other versions of Transformers and TRL. Create an environment with
`pip install llamafactory` and pass its command:
`make bench LLAMAFACTORY=/path/to/bin/llamafactory-cli`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import yaml

from benchmarks.speed.peers.steps import StepLog


def main(fixtures: Path, number: int, out: Path, command: str) -> None:
    """Train on the rows of the fixtures.

    Args:
        fixtures: The folder of fixtures.
        number: Optimizer steps.
        out: The file of steps.
        command: The path of `llamafactory-cli`.
    """
    shape = json.loads((fixtures / "shape.json").read_text())
    folder = out.with_suffix(".llamafactory")
    folder.mkdir()
    columns = {"prompt": "prompt", "response": "completion"}
    (folder / "dataset_info.json").write_text(
        json.dumps({"rows": {"file_name": str(fixtures / "rows.jsonl"), "columns": columns}})
    )
    settings = {
        "model_name_or_path": str(fixtures / "model"),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "rows",
        "dataset_dir": str(folder),
        "template": "empty",
        "cutoff_len": shape["length"],
        "packing": True,
        "neat_packing": True,
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": shape["batch"],
        "gradient_accumulation_steps": 1,
        "max_steps": number,
        "learning_rate": 1e-4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "flash_attn": "sdpa",
        "disable_gradient_checkpointing": True,
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(settings))
    log = folder / "out" / "trainer_log.jsonl"
    process = subprocess.Popen(
        [command, "train", str(folder / "train.yaml")],
        stdout=(folder / "stdout").open("w"),
        stderr=subprocess.STDOUT,
    )
    # Its own token count overflows on a CPU. Counting every packed row as full favors it.
    steps, seen, tokens = StepLog(out), 0, shape["batch"] * shape["length"]
    while process.poll() is None or (log.exists() and len(_lines(log)) > seen):
        for line in _lines(log)[seen:] if log.exists() else []:
            seen += 1
            if "loss" in line:
                steps.tokens = tokens
                steps.end(line["loss"])
        time.sleep(0.02)
    sys.exit(process.returncode)


def _lines(log: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
