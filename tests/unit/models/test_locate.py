from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from training.models.locate import explain_missing


def test_an_architecture_without_sdpa_is_answered_with_what_to_set(tmp_path: Path) -> None:
    config = AutoConfig.for_model("bloom", vocab_size=50, hidden_size=16, n_layer=1, n_head=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="attention") as refused:
        AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="sdpa")
    said = explain_missing("model", str(tmp_path), refused.value)
    assert said.endswith("does not support sdpa attention. Set model.attention: eager")
