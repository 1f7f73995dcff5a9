"""The export for Transformers 4, read by Transformers 4.51.3 in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.factories import docstrings
from tests.installed_packages import installed_packages
from tests.parity.test_gguf import byte_level
from training.errors import ModelError
from training.export.formats import transformers_4
from training.export.transformers_4 import legacy_config

PACKAGES = ("transformers==4.51.3", "tokenizers==0.21.4", "huggingface-hub==0.36.0")
"""The first is what Amazon Bedrock imports models with; the others are what it needs."""
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
DEFAULT = {"rope_type": "default", "rope_theta": 1_000_000.0}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"rope_parameters": DEFAULT, "tie_word_embeddings": True}),
    "llama, positions of 3.1": ("llama", {"rope_parameters": LLAMA3}),
    "mistral": ("mistral", {"rope_parameters": DEFAULT, "sliding_window": 32}),
    "mixtral": ("mixtral", {"rope_parameters": DEFAULT, "num_local_experts": 4}),
    "qwen2": ("qwen2", {"rope_parameters": DEFAULT}),
    "qwen3": ("qwen3", {"rope_parameters": DEFAULT, "head_dim": 16}),
    "qwen3_moe": ("qwen3_moe", {"rope_parameters": DEFAULT, "head_dim": 16, **EXPERTS}),
}
READ = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer, __version__
assert __version__ == "4.51.3", __version__
texts = json.loads(Path(sys.argv[1]).read_text())
for folder in map(Path, sys.argv[2:]):
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = [tokenizer(text)["input_ids"] for text in texts]
        chat = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}])
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        with torch.no_grad():
            logits = model.float().eval()(torch.arange(3, 203)[None]).logits
        read = {"logits": logits, "ids": ids, "chat": list(chat)}
    except ValueError as error:
        read = {"error": str(error)}
    torch.save(read, folder.with_suffix(".pt"))
"""
TEXTS = [text for _, text in docstrings()][:200]
AS_SAVED, WRONG_BASE = "as saved", "as saved, with another tokenizer class"


@pytest.fixture(scope="session")
def packages() -> Path:
    """Return the folder of Transformers 4; skips if it cannot be installed."""
    return installed_packages(*PACKAGES)


def make(folder: Path, case: str) -> Path:
    """Save a small model whose positions matter, with a byte-level tokenizer and a template."""
    kind, more = CASES[case]
    shape = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "vocab_size": 512, "tie_word_embeddings": False, **more,
    }  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    byte_level(folder, qwen=kind.startswith("qwen"))
    return folder


@pytest.fixture(scope="session")
def read(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Read]:
    """Return what Transformers 4 reads in each export, and in a folder that was not exported."""
    root = tmp_path_factory.mktemp("transformers-4")
    models = {case: make(root / f"model-{number}", case) for number, case in enumerate(CASES)}
    folders = {case: root / f"out-{number}" for number, case in enumerate(CASES)}
    for case, folder in folders.items():
        transformers_4(models[case], folder)
    saved = models["llama, positions of 3.1"]
    changed = shutil.copytree(saved, root / "changed")
    settings = json.loads((changed / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (changed / "tokenizer_config.json").write_text(json.dumps(settings))
    models |= {AS_SAVED: saved, WRONG_BASE: saved}
    folders |= {AS_SAVED: saved, WRONG_BASE: changed}
    (root / "texts.json").write_text(json.dumps(TEXTS))
    done = subprocess.run(
        [sys.executable, "-c", READ, str(root / "texts.json"), *map(str, folders.values())],
        env={**os.environ, "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"},
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        case: Read(models[case], torch.load(folder.with_suffix(".pt")))
        for case, folder in folders.items()
    }


class Read(NamedTuple):
    """A model as it was saved, and what Transformers 4 reads."""

    saved: Path
    there: dict[str, Any]

    def logits_here(self) -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(self.saved, attn_implementation="eager")
        with torch.no_grad():
            logits: torch.Tensor = model.eval()(torch.arange(3, 203)[None]).logits
        return logits


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_transformers_4_reads_the_same_model(case: str, read: dict[str, Read]) -> None:
    found = read[case]
    assert "error" not in found.there, found.there["error"]
    torch.testing.assert_close(found.there["logits"], found.logits_here(), atol=2e-5, rtol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(found.saved)
    assert found.there["ids"] == [tokenizer(text)["input_ids"] for text in TEXTS]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}])
    assert found.there["chat"] == list(chat["input_ids"])


@pytest.mark.slow
def test_without_the_export_nothing_is_read_or_positions_are_wrong(read: dict[str, Read]) -> None:
    assert "TokenizersBackend" in read[AS_SAVED].there["error"]
    wrong = read[WRONG_BASE]
    assert (wrong.there["logits"] - wrong.logits_here()).abs().max() > 0.1


def test_settings_that_transformers_4_reads(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", "llama, positions of 3.1")
    said = transformers_4(folder, tmp_path / "out", dtype="bf16")
    assert "settings for Transformers 4.51.3, with the same logits" in said
    assert list(json.loads((tmp_path / "export.json").read_text())) == ["out"]
    assert {path.name for path in tmp_path.iterdir()} == {"model", "out", "export.json"}
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["rope_theta"] == 500_000.0 and config["torch_dtype"] == "bfloat16"
    assert config["rope_scaling"]["factor"] == 8.0 and "rope_theta" not in config["rope_scaling"]
    assert not {"rope_parameters", "dtype"} & set(config)
    tokenizer = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "<|im_start|>" in tokenizer["chat_template"]
    again = AutoConfig.from_pretrained(tmp_path / "out")
    assert again.rope_parameters == AutoConfig.from_pretrained(folder).rope_parameters


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "gemma3_text"}, "family 'gemma3_text' were not compared"),
        (
            {"model_type": "llama", "rope_parameters": {"full_attention": {"rope_theta": 1.0}}},
            "positions that differ between layers",
        ),
    ],
)
def test_what_has_no_form_in_transformers_4_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        legacy_config(config)
