"""Tokenizers and jobs that the data tests make themselves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from training.config import Job
from training.config.load import parse_job

WORDS = (
    "the cat sat on a mat and the dog ran to the river where fish swim all day long. "
    "What is the capital of France? The capital of France is Paris. user assistant system tool "
    "Once upon a time there was a little girl named Lily who loved to play outside in the park. "
    "instruction response input output question answer prompt completion weather in Berlin today "
)


def sentencepiece_like(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """Begins texts with BOS and a space, knows no chat tokens, pads with EOS (as Llama 2 does)."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = _prepend()
    trained.train_from_iterator(
        [WORDS] * 3, trainers.BpeTrainer(vocab_size=200, show_progress=False)
    )
    model = json.loads(trained.to_str())["model"]
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {token: index for index, token in enumerate(specials)}
    for token in model["vocab"]:
        vocab.setdefault(token, len(vocab))
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = _prepend()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
        chat_template=chat_template,
    )


def _prepend() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def byte_level(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """Adds nothing to a text, knows ChatML's tokens (as Qwen does)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=chat_template,
    )


def make_job(train: Any, *, method: str = "sft", template: str | None = None, **data: Any) -> Job:
    """A job over `train`; further keys go to its data section, `loss_on` and `seed` elsewhere."""
    loss_on = data.pop("loss_on", None)
    seed = data.pop("seed", 7)
    steps = {"max_steps": 5} if data.get("streaming") else {}
    job = parse_job(
        {
            "name": "test",
            "model": {"source": "somewhere", "chat_template": template},
            "data": {"train": train if isinstance(train, dict | list) else str(train), **data},
            "method": {"kind": method, **({"loss_on": loss_on} if loss_on else {})},
            "train": {"seed": seed, **steps},
        },
        "test",
    )
    assert isinstance(job, Job)
    return job


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def gzipped(path: Path) -> Path:
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return target
