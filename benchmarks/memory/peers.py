"""What others say of the same configuration.

- DeepSpeed: `estimate_zero2_model_states_mem_needs` and its like for stage 3; weights, gradients
  and optimizer states, and of ZeRO 2 and 3 alone.
- Accelerate: `accelerate estimate-memory`, the arithmetic of its command: four times the weights.
- The rule of thumb: weights, gradients and two optimizer states, 16 bytes for each trained weight.

None knows activations, adapters, a second model or what engines hold beside the states.
"""

from __future__ import annotations

from planning.memory.parameters import MemoryConfig, base_dtype
from planning.model_shape import ModelShape

_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def deepspeed(recipe: MemoryConfig) -> int | None:
    """DeepSpeed's estimators; None where they have none."""
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
    """Accelerate's estimate of training with Adam."""
    from accelerate.commands.estimate import estimate_training_usage

    name = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[recipe.precision]
    return int(max(estimate_training_usage(4 * recipe.shape.parameters, name).values()))


def rule_of_thumb(recipe: MemoryConfig, learned: int) -> int:
    """Weights, gradients and two fp32 states of everything that is trained."""
    weights = recipe.shape.parameters * _BYTES[base_dtype(recipe)]
    if recipe.four_bit is not None:
        weights = recipe.shape.parameters // 2
    return weights + learned * (4 + 8)


def _largest(shape: ModelShape) -> int:
    """Weights of the largest layer, as DeepSpeed counts it."""
    return max(shape.vocab * shape.hidden, *(a * b for a, b in shape.linears.values()))
