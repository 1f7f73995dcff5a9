"""Cost of LoRA on the experts of a mixture, which are not linear layers.

PEFT gives each expert a pair of matrices, and adds their product to the experts' weights in every
forward pass: the sum is saved for the backward pass (`peft/tuners/lora/layer.py`, `ParamWrapper`).
This is counted, not simulated.
"""

from __future__ import annotations

from collections.abc import Iterator

from planning.disk import format_count
from planning.model_shape import ModelShape
from training.config import Job
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


def count_on_experts(section: object, shape: ModelShape) -> int:
    """Return the trained weights of one layer's experts and router.

    Args:
        section: Section `adapter` of a job.
        shape: Shape of the model.
    """
    return sum(
        copies * rank * (rows + columns)
        for copies, rank, rows, columns in _matrices(section, shape)
    )


def note_on_experts(job: Job, shape: ModelShape) -> str | None:
    """Return a note on the memory that the plan leaves out; None if the adapter has no experts."""
    trained = count_on_experts(job.adapter, shape) * shape.layers
    if not trained:
        return None
    experts = sum(
        copies * rows * columns
        for copies, _, rows, columns in _matrices(job.adapter, shape)
        if copies > 1
    )
    width = 4 if job.precision == "fp32" else 2
    # With checkpointing, the layers are recomputed one at a time.
    layers = 1 if job.train.gradient_checkpointing else shape.layers
    return (
        f"LoRA on experts is not in the memory above: {format_count(trained)} weights of the "
        f"adapter with gradients and AdamW states, {16 * trained / 2**30:,.1f} GiB, and the "
        f"adapted experts once more until the backward pass, "
        f"{experts * layers * width / 2**30:,.1f} GiB"
    )


def _matrices(section: object, shape: ModelShape) -> Iterator[tuple[int, int, int, int]]:
    """Yield copies, rank, inputs and outputs of each adapted matrix of experts and router."""
    if not isinstance(section, Lora) or not shape.experts:
        return
    hidden, width, rank = shape.hidden, shape.expert_width, section.kept_rank
    everything = section.target_modules == "all-linear" and section.layers_to_transform is None
    translated = everything and shape.family in _LINEAR_PER_EXPERT
    named = {name.rpartition(".")[2] for name in section.target_parameters if "experts" in name}
    if translated or "gate_up_proj" in named:
        # Two linear layers in one tensor: PEFT doubles the rank if it translates them.
        yield shape.experts, rank * (2 if translated else 1), hidden, 2 * width
    if translated or "down_proj" in named:
        yield shape.experts, rank, width, hidden
    if translated:
        yield 1, rank, hidden, shape.experts
