"""A folder quantized by bitsandbytes loads with Transformers, and says what it lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from temper.cli import main
from tests.run_commands import changed, train_here
from training.errors import GuardError
from training.export import bitsandbytes_folder as exporter
from training.export.formats import bitsandbytes_folder

IDS = torch.arange(3, 40)[None]


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def test_transformers_loads_what_was_measured(document: dict[str, Any], tmp_path: Path) -> None:
    adapter = {"kind": "lora", "r": 4}
    job = changed(document, data={"validation": {"split": "20%"}}, adapter=adapter)
    run = train_here(job, tmp_path / "run")
    for name in ("safetensors", "bitsandbytes-8bit"):
        assert main(["export", str(run.path), "--format", name]) == 0
    folder = run.path / "export"
    figures = json.loads((folder / "export.json").read_text())["bitsandbytes-8bit"]
    trained = json.loads((run.path / "evaluation.json").read_text())["after"]["validation"]["loss"]
    assert figures["held_out_loss"]["before"] == pytest.approx(trained, abs=1e-4)
    assert 0 < abs(figures["held_out_loss"]["after"] - trained) < 0.01
    assert 0 < figures["kl"] < 0.01
    assert figures["bytes"]["after"] < figures["bytes"]["before"]
    whole = logits(folder / "model")
    error = (logits(folder / "bitsandbytes-8bit") - whole).norm() / whole.norm()
    assert 1e-4 < error < 0.1
    assert (folder / "bitsandbytes-8bit/tokenizer.json").is_file()


def test_a_wrong_weight_is_found(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = exporter._dequantized
    monkeypatch.setattr(exporter, "_dequantized", lambda module: read(module).roll(1, 0))
    with pytest.raises(GuardError, match=r"q_proj.weight does not read back as it was written"):
        bitsandbytes_folder(tiny_model, tmp_path / "out")
    assert not list(tmp_path.iterdir())
