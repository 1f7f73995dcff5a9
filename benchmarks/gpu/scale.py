"""Scale of a run of the benchmark: large models on a GPU, tiny ones on a CPU."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from benchmarks.memory.fixtures import words, write_rows
from benchmarks.memory.simulate import SHAPES

Size = Literal["small", "1B", "3B", "8B"]

_TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 88,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 384,
    "tie_word_embeddings": False,
}
_SMALL: dict[str, Any] = {
    **SHAPES["1B"],
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "vocab_size": 32768,
}
_GPU_SHAPES = {"small": _SMALL, **{name: SHAPES[name] for name in ("1B", "3B", "8B")}}
_CONTEXT = 16384


@dataclass(frozen=True)
class Scale:
    """Device and sizes of a run.

    Attributes:
        device: `cuda` for random weights of up to 8 billion parameters, `cpu` for tiny ones.
        home: Folder of models and rows, made when first asked for.
    """

    device: Literal["cpu", "cuda"]
    home: Path

    @property
    def on_gpu(self) -> bool:
        """True if kernels of a GPU are measured."""
        return self.device == "cuda"

    @property
    def length(self) -> int:
        """Tokens of a row in checks."""
        return 512 if self.on_gpu else 64

    @property
    def steps(self) -> int:
        """Optimizer steps of a check."""
        return 10 if self.on_gpu else 4

    @cached_property
    def rows(self) -> Path:
        """Folder of rows, `KIND.jsonl`."""
        write_rows(self.home)
        path = self.home / "rows" / "long.jsonl"
        lines = ({"text": words(random.Random(n), 3000)} for n in range(24 if self.on_gpu else 4))
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return self.home / "rows"

    def model_name(self, size: Size) -> str:
        """Return the name of a model's folder."""
        return size if self.on_gpu else "tiny"

    def model(self, size: Size = "small") -> Path:
        """Return the folder of a model with random weights; on a CPU it is always tiny."""
        folder = self.home / "models" / self.model_name(size)
        if not (folder / "config.json").exists():
            _make(folder, _GPU_SHAPES[size] if self.on_gpu else _TINY, self.device)
        return folder

    def job(self, size: Size = "small", **sections: Any) -> dict[str, Any]:
        """Return a job of full fine-tuning in fp32; mappings are merged into its sections.

        Args:
            size: Model to train.
            sections: Sections of the job. `rows` names another file of `self.rows`.
        """
        rows = sections.pop("rows", "answers")
        document: dict[str, Any] = {
            "name": "gpu",
            "model": {"source": str(self.model(size))},
            "data": {
                "train": str(self.rows / f"{rows}.jsonl"),
                "validation": "none",
                "max_length": self.length,
                "workers": 1,
                **({} if self.on_gpu else {"limit": 24}),
            },
            "method": {"kind": "sft", "loss_on": "all"},
            "train": {
                "max_steps": self.steps,
                "global_batch_size": 4,
                "micro_batch_size": 2,
                "learning_rate": 1e-4 if self.on_gpu else 1e-3,
            },
            "tracking": {"mlflow": False},
        }
        for name, section in sections.items():
            before = document.get(name)
            if isinstance(before, dict) and isinstance(section, dict) and name != "method":
                document[name] = {**before, **section}
            else:
                document[name] = section
        return document


def _make(folder: Path, shape: dict[str, Any], device: str) -> None:
    """Save a model with random weights: in bf16 from a GPU, where fp32 would take a minute."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from training.models.tokenizer import train_tokenizer

    building = folder.with_name(f".writing-{folder.name}")
    train_tokenizer((words(random.Random(n), 50) for n in range(50)), 320, building)
    tokenizer = AutoTokenizer.from_pretrained(building)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    kind = {k: v for k, v in shape.items() if k != "architectures"}
    kind["max_position_embeddings"] = _CONTEXT if device == "cuda" else 256
    config = AutoConfig.for_model(**kind, **ids, pad_token_id=tokenizer.pad_token_id)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if device == "cpu":
        with torch.no_grad():
            # The initial weights of a large model make a tiny one say the same everywhere.
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.normal_(std=0.12)
    model.save_pretrained(building)
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    building.rename(folder)
