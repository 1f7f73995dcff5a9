"""Other memory estimators, applied to the same configuration.

- DeepSpeed: `estimate_zero2_model_states_mem_needs` and its counterpart for stage 3: weights,
  gradients and optimizer states, only for ZeRO 2 and 3.
- Accelerate: the arithmetic of `accelerate estimate-memory`: four times the weights.
- Rule of thumb: weights, gradients and two optimizer states, 16 bytes per trained parameter.

None of them models activations, adapters, a second model or the buffers of a sharding engine.
"""

from __future__ import annotations

from planning.memory.parameters import MemoryConfig, base_dtype
from planning.model_shape import ModelShape

_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def deepspeed(recipe: MemoryConfig) -> int | None:
    """Return DeepSpeed's estimate in bytes; None if it has no estimator for the configuration."""
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    count, world = recipe.shape.parameters, recipe.world
    if recipe.zero == 2:
        _, device = estimate_zero2_model_states_mem_needs(count, world, 1, cpu_offload=False)
    elif recipe.zero == 3 or recipe.fsdp:
        _, device, _ = estimate_zero3_model_states_mem_needs(
            count, _largest(recipe.shape), world, 1, cpu_offload=False, cpu_offload_params=False
        )
    else:
        return None
    return int(device)


def accelerate(recipe: MemoryConfig) -> int:
    """Return Accelerate's estimate of training with Adam, in bytes."""
    from accelerate.commands.estimate import estimate_training_usage

    name = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[recipe.precision]
    return int(max(estimate_training_usage(4 * recipe.shape.parameters, name).values()))


def rule_of_thumb(recipe: MemoryConfig, learned: int) -> int:
    """Return the bytes of weights, and of gradients and two fp32 states of trained parameters."""
    weights = recipe.shape.parameters * _BYTES[base_dtype(recipe)]
    if recipe.four_bit is not None:
        weights = recipe.shape.parameters // 2
    return weights + learned * (4 + 8)


def _largest(shape: ModelShape) -> int:
    """Return the parameters of the largest layer, as DeepSpeed counts them."""
    return max(shape.vocab * shape.hidden, *(a * b for a, b in shape.linears.values()))
