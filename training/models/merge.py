"""An adapter and its base as one model.

A job that starts from an adapter folder (the stage before may have trained one) starts from this.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from training.errors import ModelError
from training.models.source import explain_missing

_CONFIG = "adapter_config.json"


def is_adapter(source: str) -> bool:
    """Whether a folder holds an adapter rather than a whole model."""
    return (Path(source) / _CONFIG).is_file()


def merged(source: str, *, dtype: torch.dtype, attention: str = "sdpa") -> PreTrainedModel:
    """Return the base that an adapter was trained on, with the adapter's update added to it.

    The base is read unquantized, whatever it was trained on: adding to 4-bit weights would round
    the update away.

    Args:
        source: Folder of the adapter.
        dtype: Of the result; the addition itself is done in fp32.
        attention: As in a job.

    Raises:
        ModelError: The base or the adapter cannot be read.
    """
    base = json.loads((Path(source) / _CONFIG).read_text())["base_model_name_or_path"]
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, attn_implementation=attention
        )
    except Exception as error:
        raise ModelError(explain_missing(f"base of the adapter {source}", base, error)) from error
    try:
        whole = PeftModel.from_pretrained(model, source).merge_and_unload(safe_merge=True)
    except Exception as error:
        raise ModelError(explain_missing("adapter", source, error)) from error
    # PEFT froze the base; from here on it is a model like any other.
    result: PreTrainedModel = whole.to(dtype).requires_grad_(True)
    return result
