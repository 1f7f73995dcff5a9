"""A job that starts from an adapter starts from the model that the adapter and its base make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.factories import make_tiny_model
from tests.run_commands import Run, changed, train_here
from training.errors import GuardError, ModelError
from training.export.merged_folder import merged_folder
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


@pytest.fixture(scope="module")
def tied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tied") / "model", tie_word_embeddings=True)


def save_adapter(base: Path, folder: Path, added: int = 0, **settings: Any) -> torch.Tensor:
    """Save an adapter with random weights by PEFT alone, and return the logits with it."""
    model, tokenizer = (
        kind.from_pretrained(base) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    if added:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": [f"<{n}>" for n in range(added)]}
        )
        model.resize_token_embeddings(len(tokenizer))
    tuned = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    tuned.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return logits(tuned)


ONE_END = {
    "lora on the input": {"target_modules": ["q_proj", "embed_tokens"]},
    "lora on the output": {"target_modules": ["q_proj", "lm_head"]},
    "lora on both": {"target_modules": ["embed_tokens", "lm_head"]},
    "a copy of the input": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "a copy of the output": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "trained tokens": {
        "target_modules": ["q_proj"],
        "trainable_token_indices": {"embed_tokens": [3, 4, 5]},
    },
}


@pytest.mark.parametrize("settings", ONE_END.values(), ids=ONE_END)
def test_an_adapter_on_tied_embeddings(
    tied_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    expected = save_adapter(tied_model, tmp_path / "adapter", r=4, **settings)
    whole = merged(str(tmp_path / "adapter"), dtype=torch.float32)
    assert (logits(whole) - expected).abs().max() < 1e-4 * expected.abs().max()
    whole.save_pretrained(tmp_path / "saved")
    merged_folder(tmp_path / "adapter", tmp_path / "exported")
    for folder in ("saved", "exported"):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / folder)
        assert (logits(loaded) - expected).abs().max() < 1e-4 * expected.abs().max(), folder


@pytest.mark.parametrize("tie", [False, True], ids=["untied", "tied"])
def test_an_adapter_with_added_tokens(tmp_path: Path, tie: bool) -> None:
    base = make_tiny_model(tmp_path / "base", tie_word_embeddings=tie)
    settings = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    expected = save_adapter(base, tmp_path / "adapter", added=3, r=4, **settings)
    whole = merged(str(tmp_path / "adapter"), dtype=torch.float32)
    assert whole.get_input_embeddings().weight.shape[0] == 323
    assert (logits(whole) - expected).abs().max() < 1e-4 * expected.abs().max()
    merged_folder(tmp_path / "adapter", tmp_path / "exported")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    assert (logits(loaded) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_training_starts_from_an_adapter_with_added_tokens(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    save_adapter(tiny_model, tmp_path / "adapter", added=3, r=4, target_modules=["q_proj"])
    start = merged(str(tmp_path / "adapter"), dtype=torch.float32)
    job = changed(document, model={"source": str(tmp_path / "adapter")})
    run = train_here(
        changed(job, train={"learning_rate": 1e-9, "max_steps": 1, "warmup": 0}), tmp_path / "run"
    )
    assert run.weights["lm_head.weight"].shape[0] == 323
    for name, weight in start.named_parameters():
        assert (weight - run.weights[name]).abs().max() < 1e-6, name


def test_an_adapter_that_lacks_the_rows_of_its_added_tokens(
    tiny_model: Path, tmp_path: Path
) -> None:
    settings = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    save_adapter(tiny_model, tmp_path / "adapter", added=3, r=4, **settings)
    path = tmp_path / "adapter/adapter_model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if "embed_tokens" not in k}, path)
    with pytest.raises(ModelError, match=r"323 tokens and its base has 320.*embed_tokens"):
        merged(str(tmp_path / "adapter"), dtype=torch.float32)


def test_a_merge_that_changes_the_model_is_refused(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        PeftModel, "merge_and_unload", lambda self, **_: self.unload(), raising=False
    )
    with pytest.raises(GuardError, match="outputs of the merged model differ"):
        merged(str(adapter), dtype=torch.float32)
