"""Bottleneck adapters: small networks after or parallel to attention and MLP (arXiv:1902.00751)."""

from __future__ import annotations

import re

from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.bottleneck_tuner import BottleneckConfig
from training.config.adapters import Bottleneck
from training.errors import ModelError
from training.models.heads import task_of

_SUBLAYERS = {
    "attention": ("self_attn", "attn", "attention", "self_attention"),
    "mlp": ("mlp", "feed_forward", "ffn", "block_sparse_moe"),
}
"""Names of the sublayers in the architectures of Transformers."""
_IN_LAYER = re.compile(r"\.(?:layers|h|blocks|layer)\.\d+\.([^.]+)$")


def apply(
    model: PreTrainedModel,
    adapter: Bottleneck,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return `model` with fresh bottlenecks and everything else frozen.

    Args:
        model: The base model.
        adapter: The job's section.
        tokenizer: Not used.
        max_length: Not used.

    Raises:
        ModelError: The model has no such sublayer, or the bottleneck's size is out of range.
    """
    config = BottleneckConfig(
        task_type=task_of(model),
        target_modules=_sublayer_names(model, adapter.after),
        placement=adapter.placement,
        size=_size(model, adapter),
        activation=adapter.activation,
        scaling=adapter.scaling,
        dropout=adapter.dropout,
    )
    return get_peft_model(model, config)


def _sublayer_names(model: PreTrainedModel, sublayers: tuple[str, ...]) -> list[str]:
    children = {match[1] for name, _ in model.named_modules() if (match := _IN_LAYER.search(name))}
    targets = []
    for sublayer in sublayers:
        names = children.intersection(_SUBLAYERS[sublayer])
        if not names:
            raise ModelError(
                f"adapter.after: no {sublayer} was found in this model's layers. They have "
                f"{', '.join(sorted(children))}"
            )
        targets += sorted(names)
    return targets


def _size(model: PreTrainedModel, adapter: Bottleneck) -> int:
    width = model.config.get_text_config().hidden_size
    size = adapter.width(width)
    if size < 1:
        raise ModelError(
            f"adapter.reduction_factor {adapter.reduction_factor or 16:g} leaves no width in a "
            f"model {width} wide. Lower it to {width} or less, or set adapter.size"
        )
    if size > width:
        raise ModelError(
            f"adapter.size {size} is wider than the model ({width}): that is no bottleneck. "
            f"{width // 16 or 1} is usual"
        )
    return size
