"""A GGUF file says what the model says, as Transformers reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from tests.factories import docstrings
from training.errors import GuardError, ModelError
from training.export import gguf_file
from training.export.formats import gguf
from training.export.gguf_tokenizer import read_tokenizer, tokenize_by_scores

TEXTS = (
    "The quick brown fox jumps over the lazy dog, and then  two  spaces.",
    "def main():\n    return {'a': 1_000}\n\n\n  x",
    "Ünïcödé, 日本語 and 🦊: it's I'LL 12345 naïve café.",
)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
CASES: dict[str, tuple[str, dict[str, Any], torch.dtype]] = {
    "llama": ("llama", {"tie_word_embeddings": True}, torch.float32),
    "llama, positions of 3.1": ("llama", {"rope_parameters": LLAMA3_ROPE}, torch.float32),
    "llama, linear positions": ("llama", {"rope_parameters": LINEAR_ROPE}, torch.float32),
    "llama bf16": ("llama", {}, torch.bfloat16),
    "llama fp16": ("llama", {}, torch.float16),
    "mistral": ("mistral", {"sliding_window": None}, torch.float32),
    "qwen2": ("qwen2", {}, torch.float32),
    "qwen3": ("qwen3", {"tie_word_embeddings": True}, torch.bfloat16),
}


def byte_level(folder: Path, *, qwen: bool) -> None:
    """Save a tokenizer that cuts text as Llama 3's or Qwen's does, with a chat template."""
    digits = r"\p{N}" if qwen else r"\p{N}{1,3}"
    cut = (
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = Tokenizer(models.BPE(ignore_merges=not qwen))
    if qwen:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(cut), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for _, text in docstrings()), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    fast.save_pretrained(folder)


def make(folder: Path, case: str) -> Path:
    """Save a small model none of whose weights is like another."""
    kind, more, dtype = CASES[case]
    shape = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "vocab_size": 512, "tie_word_embeddings": False, **more,
    }  # fmt: skip
    if kind == "qwen3":
        shape["head_dim"] = 16
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.to(dtype).save_pretrained(folder)
    byte_level(folder, qwen=kind.startswith("qwen"))
    return folder


def model_name(path: Path) -> str:
    field = GGUFReader(path).get_field("general.name")
    assert field is not None
    return str(field.contents())


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


@pytest.mark.parametrize("case", CASES)
def test_transformers_reads_the_same_model(case: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", case)
    said = gguf(folder, tmp_path / "out/model.gguf")
    assert "every bit as it was" in said
    ids = AutoTokenizer.from_pretrained(folder)(TEXTS[0])["input_ids"]
    mine = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # Transformers knows no "mistral" in GGUF, and reads neither scaled positions nor heads' widths.
    config = None if case == "mistral" else mine.config
    there = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", gguf_file="model.gguf", config=config, dtype=torch.float32
    )
    torch.testing.assert_close(logits(there, ids), logits(mine, ids), atol=1e-5, rtol=1e-5)


def test_an_adapter_is_folded_in_first(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    folder = make(tmp_path / "model", "llama")
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=4))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    tuned.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "adapter")
    run = tmp_path / "runs/20260101-000000"
    shutil.copytree(tmp_path / "adapter", run / "model")
    (run / "job.yaml").write_text("name: support\n")
    gguf(run / "model", tmp_path / "out/model.gguf")
    assert model_name(tmp_path / "out/model.gguf") == "support"
    gguf(tmp_path / "adapter", tmp_path / "out/model.gguf")
    assert model_name(tmp_path / "out/model.gguf") == "adapter"
    there = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", gguf_file="model.gguf", dtype=torch.float32
    )
    ids = list(range(3, 40))
    torch.testing.assert_close(logits(there, ids), logits(tuned, ids), atol=1e-4, rtol=1e-4)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.gguf"]


def test_pieces_are_merged_by_score_as_by_rank(shared_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_model)
    words = read_tokenizer(shared_model, 512)
    vocabulary = {text: number for number, text in enumerate(words.tokens)}
    for text in TEXTS:
        theirs = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenize_by_scores(text, vocabulary, words.scores) == theirs
    assert (words.model, words.add_bos, words.add_eos) == ("llama", True, False)


@pytest.fixture
def shared_model() -> Path:
    path = Path("../shared/data/models/stories260K-hf")
    if not path.exists():
        pytest.skip("../shared with its SentencePiece tokenizer is not here")
    return path


def test_the_tokenizer_of_a_model_from_nothing(tiny_model: Path) -> None:
    words = read_tokenizer(tiny_model, 320)
    assert (words.model, words.pre, words.add_bos) == ("gpt2", "gpt-2", True)
    assert words.special["bos"] == words.tokens.index("<s>")


def test_a_wrong_number_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, whole = make(tmp_path / "model", "llama"), gguf_file._stored_values

    def wrong(tensor: Any, *more: Any) -> Any:
        found = whole(tensor, *more)
        return found * 1.001 if tensor.name == "blk.1.attn_q.weight" else found

    monkeypatch.setattr(gguf_file, "_stored_values", wrong)
    with pytest.raises(GuardError, match=r"layers.1.self_attn.q_proj.weight does not read back"):
        gguf(folder, tmp_path / "out/model.gguf")
    assert list((tmp_path / "out").iterdir()) == []


def with_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def with_tokenizer(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))


def test_what_llama_cpp_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", "mistral")
    rope = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 2.0}
    cut = {"pattern": {"Regex": r"\w+"}}
    for change, says in (
        (lambda f: with_config(f, sliding_window=64), "slides over 64"),
        (lambda f: with_config(f, hidden_act="gelu"), "activation is gelu"),
        (lambda f: with_config(f, rope_parameters=rope), "scaled by yarn"),
        (lambda f: with_config(f, vocab_size=300), "500 tokens, and the model 300"),
        (
            lambda f: with_tokenizer(
                f, lambda t: t["pre_tokenizer"]["pretokenizers"][0].update(cut)
            ),
            "cuts text is not known",
        ),
        (lambda f: with_tokenizer(f, lambda t: t.update(normalizer={"type": "NFKC"})), "NFKC"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    ):
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        shutil.copytree(whole, tmp_path / "model")
        change(tmp_path / "model")
        with pytest.raises(ModelError, match=says):
            gguf(tmp_path / "model", tmp_path / "out/model.gguf")
        assert list((tmp_path / "out").iterdir()) == []
