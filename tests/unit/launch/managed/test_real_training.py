"""Training of what was converted, as the emulated providers do it by default."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from emulator.managed_training import CustomizationWork, train_here
from launch.managed.formats import converter
from tests.factories import make_tiny_model
from training.data.schema.rows import CompletionRow

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.mark.slow
def test_records_are_really_learned(tmp_path: Path) -> None:
    base = tmp_path / "base"
    make_tiny_model(base, "llama")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(base)
    convert, _ = converter("converse")
    rows = [CompletionRow(str(n), f"Which number is {n}?", f"It is {n}.") for n in range(16)]
    records = "".join(json.dumps(convert(row)) + "\n" for row in rows)
    work = CustomizationWork(
        base, records, "converse", tmp_path / "home", epochs=1, learning_rate=1e-2
    )
    model = train_here(work)
    before = load_file(str(base / "model.safetensors"))
    after = load_file(str(model / "model.safetensors"))
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
