"""Placement of a model on the devices of an instance: tensor parallelism and memory.

The parts are those of vLLM: weights, key-value cache and the activations of one step, in
`gpu_memory_utilization` of each device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from catalog.instances import Accelerator, Instance
from planning.model_shape import ModelShape
from planning.serving.workload import ServingWorkload, WeightDtype

_GIB = 2.0**30
_UTILIZATION = 0.9
"""vLLM's default of `gpu_memory_utilization`."""
_STEP_TOKENS = 8192
"""Tokens of one step, prompts and answers together; vLLM's `max_num_batched_tokens` for servers."""
_CUDA_GIB = 0.8
"""Memory of the CUDA context and the captured graphs. An estimate."""
_CACHE_BYTES = 2
_FP8_DEVICES = ("L4", "L40S", "RTX-PRO-6000", "H100", "H200", "B200", "B300")
"""Accelerators that multiply in FP8; Ampere (A10G, A100) does not."""


@dataclass(frozen=True)
class Placement:
    """Model on one instance.

    Attributes:
        instance: The instance.
        dtype: Dtype of the weights.
        tensor_parallel: Number of devices that share one copy of the model.
        copies: Number of copies.
        weights_gib: Weights on each device.
        step_gib: Activations of a step and the CUDA context on each device.
        cache_gib: Memory for keys and values on each device.
        cache_bytes_per_token: Keys and values of a token on each device.
        sequences: Requests that are decoded together in each copy.
    """

    instance: Instance
    dtype: WeightDtype
    tensor_parallel: int
    copies: int
    weights_gib: float
    step_gib: float
    cache_gib: float
    cache_bytes_per_token: int
    sequences: int


def weight_bytes(dtype: WeightDtype) -> float:
    """Return the bytes of a weight."""
    return {"bf16": 2.0, "fp8": 1.0}[dtype]


def supports(device: Accelerator, dtype: WeightDtype) -> bool:
    """Return whether a device multiplies in a dtype."""
    return dtype == "bf16" or device.name in _FP8_DEVICES


def placements(
    shape: ModelShape, instance: Instance, dtype: WeightDtype, workload: ServingWorkload
) -> Iterator[Placement]:
    """Yield the placements of a model on an instance, those with fewer devices per copy first.

    Args:
        shape: Shape of the model.
        instance: The instance.
        dtype: Dtype of the weights.
        workload: Requests, of which the longest must fit.
    """
    parallel = 1
    while parallel <= instance.devices:
        if shape.heads % parallel == 0:
            placement = _placed(shape, instance, dtype, parallel, workload)
            if placement is not None:
                yield placement
        parallel *= 2


def _placed(
    shape: ModelShape,
    instance: Instance,
    dtype: WeightDtype,
    parallel: int,
    workload: ServingWorkload,
) -> Placement | None:
    device = instance.accelerator
    # Embeddings and head stay in 16 bits when the layers are quantized.
    layers = shape.layers * shape.per_layer * weight_bytes(dtype)
    weights = (layers + shape.outside * 2) / parallel / _GIB
    # Heads of keys and values are copied where there are fewer than devices.
    kv_heads = math.ceil(shape.kv_heads / parallel)
    per_token = 2 * shape.layers * kv_heads * shape.head_dim * _CACHE_BYTES
    step = _CUDA_GIB + _step_bytes(shape, parallel, workload) / _GIB
    room = min(device.usable_gib, _UTILIZATION * device.memory_gib) - weights - step
    if room * _GIB < per_token * workload.context:
        return None
    fitting = int(room * _GIB / (per_token * workload.cached_tokens))
    return Placement(
        instance=instance,
        dtype=dtype,
        tensor_parallel=parallel,
        copies=instance.devices // parallel,
        weights_gib=weights,
        step_gib=step,
        cache_gib=room,
        cache_bytes_per_token=per_token,
        sequences=max(1, min(fitting, workload.sequences)),
    )


def _step_bytes(shape: ModelShape, parallel: int, workload: ServingWorkload) -> float:
    """Return the bytes of the largest activations: a layer's, and the logits in 32 bits."""
    width = 2 * shape.hidden + 3 * max(shape.intermediate, shape.expert_width) / parallel
    tokens = min(_STEP_TOKENS, max(workload.context, workload.sequences))
    return tokens * width * 2 + workload.sequences * shape.vocab * 4
