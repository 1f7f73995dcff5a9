"""LLaMA-Factory's pre-training stage: fp32 weights and bf16 autocast, or a bf16 base under LoRA.

`python -m benchmarks.gpu.peers.llamafactory_run SETTINGS STEPS`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llamafactory.train.tuner import run_exp

from benchmarks.gpu.peers.settings import PeerSettings, read_arguments
from benchmarks.gpu.peers.trainer_steps import StepFileCallback


def arguments(settings: PeerSettings) -> dict[str, Any]:
    """Return LLaMA-Factory's arguments; gradient checkpointing is on by its default."""
    folder = Path(settings.folder)
    rows = {"file_name": settings.rows, "columns": {"prompt": "text"}}
    (folder / "dataset_info.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    lora = {
        "finetuning_type": "lora",
        "lora_target": "all",
        "lora_rank": settings.r,
        "lora_alpha": settings.alpha,
        "lora_dropout": 0.0,
    }
    return {
        "stage": "pt",
        "do_train": True,
        "model_name_or_path": settings.model,
        "dataset": "rows",
        "dataset_dir": str(folder),
        "template": "empty",
        "cutoff_len": settings.length,
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": settings.batch,
        "gradient_accumulation_steps": 1,
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "flash_attn": "sdpa",
        "bf16": True,
        "use_cpu": not settings.on_gpu,
        **(lora if settings.lora else {"finetuning_type": "full"}),
    }


def main() -> None:
    """Train."""
    settings, steps = read_arguments()
    run_exp(arguments(settings), callbacks=[StepFileCallback(steps)])


if __name__ == "__main__":
    main()
