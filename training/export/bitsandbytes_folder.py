"""Export as a folder of 8-bit weights that `from_pretrained` loads with bitsandbytes.

LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339) has a scale per output channel. Embeddings,
norms and the head keep their dtype, as Transformers leaves them out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from training.errors import GuardError
from training.models.safetensors_io import WeightFiles

_STEP = 1 / 254
_FP16_ROUNDING = 2.0**-10
"""bitsandbytes casts a weight to fp16 before it quantizes it."""


def write_bitsandbytes(folder: Path, target: Path) -> Any:
    """Write a quantized model, load it again, and return it after its weights were compared.

    Args:
        folder: Folder of a complete model.
        target: Folder to create.

    Raises:
        GuardError: A weight differs by more than rounding explains.
    """
    config = BitsAndBytesConfig(load_in_8bit=True)
    AutoModelForCausalLM.from_pretrained(folder, quantization_config=config).save_pretrained(target)
    quantized = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    files = WeightFiles(folder)
    names = [n for n, m in quantized.named_modules() if isinstance(m, bnb.nn.Linear8bitLt)]
    if not names:
        raise GuardError(f"bitsandbytes quantized no layer of {folder}. The export was discarded")
    for name in names:
        original = files.read(f"{name}.weight").float()
        error = (_dequantized(quantized.get_submodule(name)) - original).abs().amax(dim=1)
        allowed = (_STEP + _FP16_ROUNDING) * original.abs().amax(dim=1) + 1e-7
        if not bool((error <= allowed).all()):
            raise GuardError(f"{name}.weight does not read back as it was written")
    return quantized


def _dequantized(module: Any) -> torch.Tensor:
    """Return the weight of a quantized layer in fp32."""
    weight: torch.Tensor = module.weight.data.float() * (module.weight.SCB.float() / 127)[:, None]
    return weight
