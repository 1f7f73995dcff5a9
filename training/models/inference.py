"""Loading of a model that answers: for judges, evaluations and serving, in the same way."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.errors import ModelError
from training.models.locate import explain_missing
from training.models.merge import is_adapter, merged


def load_for_inference(source: str, folder: str, device: torch.device) -> tuple[Any, Any]:
    """Return a causal language model and its tokenizer; an adapter is merged into its base.

    Args:
        source: Folder or Hub id, as the user wrote it.
        folder: Folder or Hub id to load: for a run, that of its model.
        device: Device of the model, in bf16 on a GPU and in fp32 elsewhere.

    Raises:
        ModelError: The model does not exist or cannot be read.
    """
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if is_adapter(folder):
            model: Any = merged(folder, dtype=dtype)
        else:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(explain_missing("model", source, error)) from error
    return model.to(device).eval().requires_grad_(False), tokenizer
