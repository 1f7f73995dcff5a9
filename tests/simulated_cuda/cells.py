"""Jobs that are walked on the simulated device: methods, adapters and precisions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.factories import docstring_pairs, make_tiny_model, write_jsonl
from tests.matrix.cells import KINDS

PRECISIONS = ("fp32", "bf16", "fp16")
_WORDS = "abcdefghijklmnop"
_REWARD = {"kind": "regex_count", "pattern": "[aeiou]", "scale": 0.1}
_GROUPS = {
    "num_generations": 2, "beta": 0.05, "reward": _REWARD, "rollout": {"max_new_tokens": 3},
}  # fmt: skip
_TEACHER = {"kind": "distill", "teacher": "MODEL"}
METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "pretrain": ({"kind": "pretrain"}, "texts"),
    "sft": ({"kind": "sft"}, "pairs"),
    "distill": (_TEACHER, "pairs"),
    "distill, top_k": ({**_TEACHER, "top_k": 4}, "pairs"),
    "distill, on_policy": (
        {**_TEACHER, "loss_on": "completion", "on_policy": 1.0, "answer_tokens": 3},
        "pairs",
    ),
    "reward": ({"kind": "reward"}, "preferences"),
    "dpo": ({"kind": "dpo"}, "preferences"),
    "dpo, precompute": ({"kind": "dpo", "precompute": True}, "preferences"),
    "kto": ({"kind": "kto"}, "answers"),
    "orpo": ({"kind": "orpo"}, "preferences"),
    "simpo": ({"kind": "simpo"}, "preferences"),
    "grpo": ({"kind": "grpo", **_GROUPS}, "prompts"),
    "rloo": ({"kind": "rloo", **_GROUPS}, "prompts"),
    "ppo": (
        {"kind": "ppo", "reward": _REWARD, "rollout": {"max_new_tokens": 3, "batch": 2}},
        "prompts",
    ),
}
"""By name: a job's `method`, and its rows."""
ADAPTERS = {name: section for name, section in KINDS.items() if name != "lora"}
LORA = {"kind": "lora", "r": 4}


@dataclass(frozen=True)
class Cell:
    """One combination of method, adapter and precision."""

    method: str
    adapter: str
    precision: str

    @property
    def name(self) -> str:
        """Name of the cell in messages."""
        return f"{self.method} x {self.adapter} x {self.precision}"

    def job(self, home: Path) -> dict[str, Any]:
        """Return the job of the cell.

        Args:
            home: Folder of `write_inputs`.
        """
        method, kind = METHODS[self.method]
        if "teacher" in method:
            method = {**method, "teacher": str(home / "model")}
        data: dict[str, Any] = {"train": str(home / f"{kind}.jsonl")}
        if kind == "prompts":
            data = {"prompts": ["What is str.", "What is list.", "What", "int is"]}
        # AdaLoRA needs a step between its first phase and its last.
        steps = 5 if self.adapter == "adalora" else 2
        # Two micro-batches where two fit the time: without an adapter.
        rows_per_step = 4 if self.adapter == "none" else 2
        job: dict[str, Any] = {
            "name": "cell",
            "model": {"source": str(home / "model")},
            "data": {**data, "max_length": 48, "workers": 1},
            "method": method,
            "precision": self.precision,
            "train": {
                "max_steps": steps, "global_batch_size": rows_per_step, "micro_batch_size": 2,
                "learning_rate": 1e-3,
            },
            "tracking": {"mlflow": False},
        }  # fmt: skip
        section = {"none": None, "lora": LORA, **ADAPTERS}[self.adapter]
        if section is not None:
            job["adapter"] = dict(section)
            if section["kind"] == "compose":
                job["adapter"]["adapters"] = {n: str(home / n) for n in ("first", "second")}
        return job


def covering() -> list[Cell]:
    """Return a cell of every method and of every adapter; precisions and LoRA take turns."""
    pairs = [(method, ("none", "lora")[index % 2]) for index, method in enumerate(METHODS)]
    pairs += [("sft", adapter) for adapter in ADAPTERS]
    cells = [
        Cell(*pair, possible[index % len(possible)])
        for index, pair in enumerate(pairs)
        if (possible := _precisions(*pair))
    ]
    return list(dict.fromkeys([Cell("sft", "none", "fp32"), *cells]))


def _precisions(method: str, adapter: str) -> tuple[str, ...]:
    """Return the precisions of a job that are not refused."""
    return PRECISIONS[:2] if "ppo" in method or adapter == "adalora" else PRECISIONS


def write_inputs(home: Path) -> None:
    """Write the model, the rows and the adapters of the cells.

    Args:
        home: Empty folder.
    """
    make_tiny_model(home / "model")
    pairs = docstring_pairs(16)
    write_jsonl(home / "pairs.jsonl", pairs)
    write_jsonl(home / "texts.jsonl", [{"text": " ".join(row.values())} for row in pairs])
    write_jsonl(
        home / "preferences.jsonl",
        [{"prompt": f"Say {w}", "chosen": f"{w} is right", "rejected": f"no {w}"} for w in _WORDS],
    )
    answers = [{"prompt": f"Say {w}", "completion": f"{w} is", "label": w < "i"} for w in _WORDS]
    write_jsonl(home / "answers.jsonl", answers)
    for seed, name in enumerate(("first", "second")):
        _write_adapter(home / "model", home / name, seed)


def _write_adapter(model: Path, folder: Path, seed: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from training.models.base_digest import write_base_digest

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(model)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=4, target_modules="all-linear")
    tuned = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    tuned.save_pretrained(folder)
    write_base_digest(folder, str(model))
