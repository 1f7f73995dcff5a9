"""LoRA on the experts of a mixture, which are not linear layers: rank and trained weights.

PEFT gives each expert a pair of matrices, and adds their product to the experts' weights in every
forward pass (`peft/tuners/lora/layer.py`, `ParamWrapper`); `planning/memory/experts.py` simulates
what that takes.
"""

from __future__ import annotations

from planning.model_shape import DOWN, GATE_UP, ROUTER, ModelShape
from training.config.adapters import Lora

_LINEAR_PER_EXPERT = frozenset(
    (
        *("mixtral", "minimax", "minimax_m2", "qwen2_moe", "qwen3_moe", "qwen3_next", "olmoe"),
        *("flex_olmo", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "glm4_moe"),
        *("ernie4_5_moe", "hunyuan_v1_moe", "exaone_moe", "afmoe", "longcat_flash", "solar_open"),
    )
)
"""Families whose experts PEFT counts among `all-linear`, because their files have a linear layer
per expert (`_MODEL_TO_CONVERSION_PATTERN` of transformers/conversion_mapping.py)."""


def expert_ranks(section: object, shape: ModelShape) -> dict[str, int]:
    """Return the rank of the update of each adapted weight of experts and router, by name.

    Args:
        section: Section `adapter` of a job.
        shape: Shape of the model.
    """
    if not isinstance(section, Lora) or not shape.experts:
        return {}
    rank = section.kept_rank
    everything = section.target_modules == "all-linear" and section.layers_to_transform is None
    if everything and shape.family in _LINEAR_PER_EXPERT:
        # Two linear layers in one tensor: PEFT doubles the rank if it translates them.
        return {ROUTER: rank, GATE_UP: 2 * rank, DOWN: rank}
    named = {name.rpartition(".")[2] for name in section.target_parameters if "experts" in name}
    return {name: rank for name in (GATE_UP, DOWN) if name.rpartition(".")[2] in named}


def low_rank_sizes(name: str, rank: int, shape: ModelShape) -> tuple[int, int]:
    """Return the elements of both matrices of an update, of all experts together.

    Args:
        name: Weight of experts or router.
        rank: Rank of the update.
        shape: Shape of the model.
    """
    hidden, width = shape.hidden, shape.expert_width
    copies, inputs, outputs = {
        ROUTER: (1, hidden, shape.experts),
        GATE_UP: (shape.experts, hidden, 2 * width),
        DOWN: (shape.experts, width, hidden),
    }[name]
    return copies * rank * inputs, copies * rank * outputs


def count_on_experts(section: object, shape: ModelShape) -> int:
    """Return the trained weights of one layer's experts and router.

    Args:
        section: Section `adapter` of a job.
        shape: Shape of the model.
    """
    return sum(
        sum(low_rank_sizes(name, rank, shape))
        for name, rank in expert_ranks(section, shape).items()
    )
