"""Quantized types of GGUF files: which tensors get which type, and how far rounding may go.

Only the types that the `gguf` package quantizes are offered. It reads llama.cpp's K-quants and
writes none: use `llama-quantize` for these. TQ1_0 and TQ2_0 are for models trained with ternary
weights, and MXFP4 is for mixtures of experts.

As in llama.cpp, vectors (norms, biases) stay fp32, a matrix whose rows are no multiple of the block
becomes fp16 (https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py), and the
matrix that computes the logits keeps more bits
(https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp): Q8_0 here, Q6_K there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from training.errors import JobError, Problem

QUANTIZED = {
    "Q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "Q5_1": (GGMLQuantizationType.Q5_1, LlamaFileType.MOSTLY_Q5_1),
    "Q5_0": (GGMLQuantizationType.Q5_0, LlamaFileType.MOSTLY_Q5_0),
    "Q4_1": (GGMLQuantizationType.Q4_1, LlamaFileType.MOSTLY_Q4_1),
    "Q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
"""Type of the matrices and of the file, by the name in llama.cpp."""
_STEPS = {
    # A block of these has a scale: the largest absolute value is at the end of the integers, and
    # with 4 and 5 bits the opposite end has one integer less.
    GGMLQuantizationType.Q8_0: 1 / 254,
    GGMLQuantizationType.Q5_0: 1 / 16,
    GGMLQuantizationType.Q4_0: 1 / 8,
    # A block of these has a scale and a minimum: half a step of 31 or 15.
    GGMLQuantizationType.Q5_1: 1 / 62,
    GGMLQuantizationType.Q4_1: 1 / 30,
}
_WITH_MINIMUM = (GGMLQuantizationType.Q5_1, GGMLQuantizationType.Q4_1)
_OUTPUT, _EMBEDDING = "output.weight", "token_embd.weight"
_FP16_ROUNDING = 2.0**-10
_FP16_SMALLEST = 2.0**-17
"""Rounding of scales that fp16 holds as subnormal numbers, times the largest integer."""


def check_outtype(outtype: str) -> str:
    """Return the name of a quantized type as llama.cpp spells it.

    Raises:
        JobError: There is no such type, or it cannot be written.
    """
    if (name := outtype.upper()) in QUANTIZED:
        return name
    fix = f"Choose from {', '.join(QUANTIZED)}; for K-quants (Q4_K_M) run llama-quantize on it"
    raise JobError("export", [Problem("OUTTYPE", "no type that is written", outtype, fix)])


def matrix_type(
    name: str, shape: tuple[int, ...], outtype: str, tied: bool
) -> GGMLQuantizationType:
    """Return the type of a matrix in a quantized file.

    Args:
        name: Name in the file.
        shape: Shape, outputs first.
        outtype: Type of the file.
        tied: Whether the embeddings compute the logits too.
    """
    kind = QUANTIZED[outtype][0]
    if name == (_EMBEDDING if tied else _OUTPUT):
        kind = GGMLQuantizationType.Q8_0
    block, _ = GGML_QUANT_SIZES[kind]
    return GGMLQuantizationType.F16 if shape[-1] % block else kind


def within_rounding(kind: GGMLQuantizationType, values: Any, stored: Any) -> bool:
    """Return whether dequantized values differ from the original by no more than a type's rounding.

    Args:
        kind: Type in the file.
        values: Original values in fp32, `[rows, columns]`.
        stored: Dequantized values, of the same shape.
    """
    error = np.abs(stored - values)
    if kind not in _STEPS:
        return bool((error <= _FP16_ROUNDING * np.abs(values) + _FP16_SMALLEST).all())
    block, _ = GGML_QUANT_SIZES[kind]
    blocks = values.reshape(-1, block)
    largest = np.abs(blocks).max(axis=1)
    span = blocks.max(axis=1) - blocks.min(axis=1) if kind in _WITH_MINIMUM else largest
    allowed = _STEPS[kind] * span + _FP16_ROUNDING * (span + largest) + _FP16_SMALLEST
    return bool((error.reshape(-1, block).max(axis=1) <= allowed).all())
