"""Fixtures of the memory benchmark: Llamas of a few million parameters, and long rows.

Every row is longer than `data.max_length` and is truncated to it, so that a plan and a run use the
same sizes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def _model(hidden: int, inner: int, layers: int, heads: int, kv: int, vocab: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocab,
        "tie_word_embeddings": vocab <= 4096,
    }


MODELS: dict[str, dict[str, Any]] = {
    "llama-10m": _model(384, 1024, 5, 6, 2, 4096),
    "llama-33m": _model(512, 1408, 8, 8, 4, 8192),
    "llama-83m": _model(768, 2048, 9, 12, 4, 16384),
    "mixtral-16m": {
        **_model(384, 512, 4, 6, 2, 4096),
        "model_type": "mixtral", "num_local_experts": 6, "num_experts_per_tok": 2,
    },
    "qwen3-moe-17m": {
        **_model(384, 1024, 4, 6, 2, 4096),
        "model_type": "qwen3_moe", "head_dim": 64, "num_experts": 16, "num_experts_per_tok": 4,
        "moe_intermediate_size": 192, "norm_topk_prob": True,
    },
    "qwen3-11m": {**_model(384, 1024, 5, 6, 2, 4096), "model_type": "qwen3", "head_dim": 64},
}  # fmt: skip
"""The content of `config.json` by model name."""

CONTEXT = 1024
_WORDS = 400
_ROWS = 96


def write_fixtures(folder: Path, models: Iterable[str] = ()) -> None:
    """Write `models/NAME` and `rows/KIND.jsonl` to `folder`, except models that exist.

    Args:
        folder: Folder of models and rows.
        models: Names of the models to write; all if empty.
    """
    for name in tuple(models) or MODELS:
        shape = MODELS[name]
        if not (folder / "models" / name / "model.safetensors").exists():
            _make_model(folder / "models" / name, shape)
    write_rows(folder)


def write_rows(folder: Path) -> None:
    """Write `rows/KIND.jsonl` to `folder`."""
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    for kind, row in _ROW_KINDS.items():
        lines = (json.dumps(row(random.Random(f"{kind} {n}"), n)) for n in range(_ROWS))
        (folder / "rows" / f"{kind}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _make_model(folder: Path, shape: dict[str, Any]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from training.models.tokenizer import train_tokenizer

    texts = (words(random.Random(n), 50) for n in range(50))
    train_tokenizer(texts, 320, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = {
        name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    config = AutoConfig.for_model(
        **shape,
        max_position_embeddings=CONTEXT,
        **ids,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)


def words(draw: random.Random, number: int) -> str:
    """Return words of three random syllables."""
    return " ".join(
        "".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(3))
        for _ in range(number)
    )


_ROW_KINDS: dict[str, Any] = {
    "texts": lambda draw, n: {"text": words(draw, _WORDS)},
    "documents": lambda draw, n: {"text": words(draw, 20 + n % 30)},
    "answers": lambda draw, n: {
        "prompt": words(draw, 8),
        "completion": words(draw, _WORDS),
    },
    "pairs": lambda draw, n: {
        "prompt": words(draw, 8),
        "chosen": words(draw, _WORDS),
        "rejected": words(draw, _WORDS),
    },
    "judged": lambda draw, n: {
        "prompt": words(draw, 8),
        "completion": words(draw, _WORDS),
        "label": n % 2 == 0,
    },
    "prompts": lambda draw, n: {"prompt": words(draw, 12)},
}
