"""Adapters that others are composed of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.run_commands import read_jsonl
from training.models.base_digest import write_base_digest


def write_adapter(model: Path, folder: Path, seed: int, learned: Path | None = None) -> None:
    """Write a LoRA adapter that changes the outputs of a model.

    Args:
        model: Folder of the base.
        folder: Folder of the adapter.
        seed: Seed of its random weights.
        learned: Rows of prompts and completions that it is then trained on.
    """
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(model)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=4, target_modules="all-linear")
    tuned = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    if learned:
        _train(tuned, AutoTokenizer.from_pretrained(model), read_jsonl(learned))
    tuned.save_pretrained(folder)
    write_base_digest(folder, str(model))


def _train(tuned: PeftModel, tokenizer: Any, rows: list[dict[str, Any]]) -> None:
    trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for first in range(0, len(rows), 8):
        texts = [row["prompt"] + row["completion"] for row in rows[first : first + 8]]
        batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=64)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        tuned(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
