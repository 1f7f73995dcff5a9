"""Encoders and encoder-decoder models are refused: no method here trains them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, ModernBertConfig, T5Config

from training.config.load import parse_job
from training.errors import JobError, ModelError
from training.models.causal_check import check_causal
from training.models.load import _from_source

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}


def document(source: str, kind: str = "sft") -> dict[str, object]:
    return {
        "name": "encoder",
        "model": {"source": source},
        "data": {"train": "rows.jsonl"},
        "method": {"kind": kind},
    }


def test_an_encoder_is_not_loaded_as_a_language_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(**SMALL, num_attention_heads=2, vocab_size=30)).save_pretrained(
        tmp_path
    )
    for kind in ("sft", "reward"):
        with pytest.raises(ModelError, match=r"is an encoder.*\(model_type bert\)"):
            _from_source(parse_job(document(str(tmp_path), kind), "job.yaml"))


def test_the_kind_of_model_is_named(tmp_path: Path) -> None:
    ModernBertConfig(**SMALL, num_attention_heads=2).save_pretrained(tmp_path / "modern")
    T5Config(d_model=16).save_pretrained(tmp_path / "t5")
    BertConfig(**SMALL, is_decoder=True).save_pretrained(tmp_path / "decoder")
    with pytest.raises(ModelError, match=r"is an encoder, .*model_type modernbert"):
        check_causal(str(tmp_path / "modern"), None, trust_remote_code=False)
    with pytest.raises(ModelError, match=r"is an encoder-decoder model .*model_type t5"):
        check_causal(str(tmp_path / "t5"), None, trust_remote_code=False)
    check_causal(str(tmp_path / "decoder"), None, trust_remote_code=False)


def test_masked_language_modeling_is_refused_with_its_reason() -> None:
    with pytest.raises(JobError, match="masked language modeling trains encoders") as error:
        parse_job(document("some/model", "mlm"), "job.yaml")
    assert "pretrain" in str(error.value)
