"""A job that starts from an adapter starts from the model that the adapter and its base make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.run_commands import Run, changed, train_here
from training.errors import ModelError
from training.models.merge import is_adapter, merged


@pytest.fixture
def adapter(document: dict[str, Any], tmp_path: Path) -> Path:
    job = changed(document, train={"learning_rate": 1e-2})
    run: Run = train_here({**job, "adapter": {"kind": "lora", "r": 4}}, tmp_path / "run")
    return run.path / "model"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(3, 60)[None], use_cache=False).logits
    return found


def test_merged_is_the_adapter_on_its_base(adapter: Path, tiny_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    before = logits(base)
    apart = logits(PeftModel.from_pretrained(base, adapter))
    whole = merged(str(adapter), dtype=torch.float32)
    assert (apart - before).abs().max() > 1e-2
    assert (logits(whole) - apart).abs().max() < 1e-5 * apart.abs().max()
    assert not [name for name, _ in whole.named_parameters() if "lora" in name]


def test_which_folder_is_an_adapter(adapter: Path, tiny_model: Path) -> None:
    assert is_adapter(str(adapter))
    assert not is_adapter(str(tiny_model))
    assert not is_adapter("owner/name")


def test_a_base_that_is_gone(adapter: Path, tmp_path: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "gone")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"base of the adapter .* does not exist"):
        merged(str(adapter), dtype=torch.float32)


def test_training_goes_on_from_an_adapter(
    document: dict[str, Any], adapter: Path, tmp_path: Path
) -> None:
    whole = merged(str(adapter), dtype=torch.float32)
    shutil.copytree(adapter, tmp_path / "kept")
    job = changed(document, model={"source": str(tmp_path / "kept")}, train={"max_steps": 1})
    tiny = {"learning_rate": 1e-9, "max_steps": 1, "warmup": 0}
    run = train_here(changed(job, train=tiny), tmp_path / "next")
    for name, weight in whole.named_parameters():
        assert (weight - run.weights[name]).abs().max() < 1e-6, name
