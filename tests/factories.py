"""Make what a test trains on: a tiny model and rows, from this interpreter alone."""

from __future__ import annotations

import builtins
import inspect
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def docstrings() -> Iterator[tuple[str, str]]:
    """Yield names of builtins and what they are for, in an order that never changes."""
    for kind in (str, bytes, list, dict, set, int, float, tuple, object):
        for name in sorted(vars(kind)):
            text = inspect.getdoc(getattr(kind, name))
            if text and callable(getattr(kind, name)):
                yield f"{kind.__name__}.{name}", " ".join(text.split())
    for name in sorted(vars(builtins)):
        text = inspect.getdoc(getattr(builtins, name))
        if text and not name.startswith("_"):
            yield name, " ".join(text.split())


def docstring_pairs(number: int) -> list[dict[str, str]]:
    """Return prompts and answers; answers are from 3 to 30 words long."""
    found = []
    for index, (name, text) in enumerate(docstrings()):
        words = text.split()[: 3 + index * 7 % 28]
        found.append({"prompt": f"What is {name}?", "completion": " ".join(words)})
        if len(found) == number:
            return found
    raise AssertionError(f"this interpreter has {len(found)} docstrings, not {number}")


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    """Write rows as JSON Lines and return where."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_tiny_model(
    folder: Path, model_type: str = "llama", *, texts: Iterable[str] | None = None, **shape: Any
) -> Path:
    """Save a model with random weights and a tokenizer in `folder`; a Llama by default.

    The tokenizer is trained on `texts`, or on docstrings, which depend on the version of Python.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from training.config.model import Model
    from training.models.tokenizer import load_tokenizer, train_tokenizer

    train_tokenizer(texts or (text for _, text in docstrings()), 320, folder)
    tokenizer = load_tokenizer(Model(source=str(folder)))
    config = AutoConfig.for_model(
        model_type,
        **{
            "hidden_size": 32,
            "intermediate_size": 88,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 256,
            "vocab_size": len(tokenizer),
            "tie_word_embeddings": False,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **shape,
        },
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        # The initial weights of a large model make a tiny one say the same everywhere.
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(std=0.12)
    model.save_pretrained(folder)
    return folder
