"""IA3's factors, where PEFT's own layers leave something to mend."""

from __future__ import annotations

from typing import Any

import torch

from tests.parity.test_soft_prompts import fresh
from tests.run_commands import changed


def test_factors_of_a_four_bit_base_compute_in_its_dtype(document: dict[str, Any]) -> None:
    """As under DeepSpeed in bf16: no autocast mends what comes out in fp32."""
    job = changed(document, precision="bf16")
    _, tuned = fresh(job, {"kind": "ia3", "base_4bit": True})
    ids = torch.arange(4, 36).reshape(2, 16)
    logits = tuned.bfloat16()(input_ids=ids, use_cache=False).logits
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()
