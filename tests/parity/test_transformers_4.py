"""The export for Transformers 4, read by Transformers 4.51.3 in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.factories import docstrings
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
from transformers import AutoModelForCausalLM, AutoTokenizer, __version__
assert __version__ == "4.51.3", __version__
folder, texts, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
texts = json.load(open(texts))
ids = [tokenizer(text)["input_ids"] for text in texts]
chat = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=True)
model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").float().eval()
with torch.no_grad():
    logits = model(torch.arange(3, 203)[None] % model.config.vocab_size).logits
torch.save({"logits": logits, "ids": ids, "chat": list(chat)}, out)
"""


@pytest.fixture(scope="session")
def packages() -> Path:
    """Return the folder of Transformers 4; skips if it cannot be installed."""
    folder = Path.home() / ".cache/temper/tests" / PACKAGES[0]
    if not folder.is_dir():
        target = folder.with_name(f".{os.getpid()}-{folder.name}")
        install = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--target"]
        done = subprocess.run(
            [*install, str(target), *PACKAGES], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"{PACKAGES[0]} cannot be installed: {done.stderr.strip()[-300:]}")
        target.rename(folder)
    return folder


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


def read_by_transformers_4(packages: Path, folder: Path, texts: list[str]) -> dict[str, Any]:
    out, listing = folder.parent / "read.pt", folder.parent / "texts.json"
    listing.write_text(json.dumps(texts))
    environment = {**os.environ, "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder), str(listing), str(out)],
        env=environment, cwd=folder.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(torch.load(out))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_transformers_4_reads_the_same_model(case: str, tmp_path: Path, packages: Path) -> None:
    folder = make(tmp_path / "model", case)
    transformers_4(folder, tmp_path / "out")
    texts = [text for _, text in docstrings()][:200]
    there = read_by_transformers_4(packages, tmp_path / "out", texts)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        here = model(torch.arange(3, 203)[None] % model.config.vocab_size).logits
    torch.testing.assert_close(there["logits"], here, atol=2e-5, rtol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert there["ids"] == [tokenizer(text)["input_ids"] for text in texts]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}])
    assert there["chat"] == list(chat["input_ids"])


@pytest.mark.slow
def test_without_the_export_positions_are_wrong_or_nothing_is_read(
    tmp_path: Path, packages: Path
) -> None:
    folder = make(tmp_path / "model", "llama, positions of 3.1")
    with pytest.raises(AssertionError, match="TokenizersBackend"):
        read_by_transformers_4(packages, folder, ["text"])
    settings = folder / "tokenizer_config.json"
    tokenizer = json.loads(settings.read_text())
    settings.write_text(json.dumps({**tokenizer, "tokenizer_class": "PreTrainedTokenizerFast"}))
    there = read_by_transformers_4(packages, folder, ["text"])
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        here = model(torch.arange(3, 203)[None]).logits
    assert (there["logits"] - here).abs().max() > 0.1


def test_settings_that_transformers_4_reads(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", "llama, positions of 3.1")
    said = transformers_4(folder, tmp_path / "out", dtype="bf16")
    assert "settings for Transformers 4.51.3, with the same logits" in said
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
