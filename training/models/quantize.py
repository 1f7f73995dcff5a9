"""4-bit quantization with bitsandbytes, for QLoRA (Dettmers et al. 2023, arXiv:2305.14314)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BitsAndBytesConfig

from training.config import Job
from training.config.adapters import Qlora

_COMPUTE = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def four_bit(job: Job) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that load the base in 4 bits."""
    qlora = job.adapter if isinstance(job.adapter, Qlora) else Qlora(kind="qlora")
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=qlora.quant_type,
            bnb_4bit_use_double_quant=qlora.double_quant,
            bnb_4bit_compute_dtype=_COMPUTE[qlora.compute_dtype],
        )
    }


def keep_training_layout(model: torch.nn.Module) -> None:
    """Prevent bitsandbytes from repacking 4-bit weights for inference on a CPU.

    On a CPU with AVX512-BF16, `Linear4bit` repacks its weight in the first forward pass in eval
    mode: the scales are rounded to bf16, and unpacking restores them only approximately. It fails
    if the number of outputs is not a multiple of 32. An evaluation during training triggers it.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010  (untyped)
