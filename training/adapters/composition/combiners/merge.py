"""Merging: PEFT's weighted sum of several LoRA adapters as one new LoRA adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel

from training.adapters.composition.members import Member
from training.config.composition import SAME_SHAPE, Merge
from training.errors import ModelError


def merge_adapters(model: Any, members: Sequence[Member], config: Merge) -> PeftModel:
    """Return the model with one new adapter that is the weighted sum of the members.

    Args:
        model: The base model.
        members: LoRA adapters in folders.
        config: The job's section.

    Raises:
        ModelError: A member is not a LoRA adapter, or the combination needs equal shapes.
    """
    _check(members, config)
    first = members[0]
    tuned = PeftModel.from_pretrained(model, str(first.folder), adapter_name=first.name)
    for other in members[1:]:
        tuned.load_adapter(str(other.folder), adapter_name=other.name)
    for member in members:
        # PEFT takes the layers of the first member for all of them.
        member_config: Any = tuned.peft_config[member.name]
        if member_config.layers_to_transform is not None:
            member_config.target_modules = set(member.layers)
            member_config.layers_to_transform = member_config.layers_pattern = None
    # PEFT accepts a density only for the combinations that prune.
    prunes = config.combination.startswith(("ties", "dare", "magnitude"))
    tuned.add_weighted_adapter(
        [member.name for member in members],
        list(config.weights or [1.0] * len(members)),
        "default",
        combination_type=config.combination,
        svd_rank=config.r,
        **({"density": config.density} if prunes else {}),
    )
    for member in members:
        tuned.delete_adapter(member.name)
    tuned.set_adapter("default")
    return tuned


def merge_to_folder(folder: Path, model: Any, members: Sequence[Member], config: Merge) -> Any:
    """Write the weighted sum to a folder as a LoRA adapter, and return the unmodified base model.

    Args:
        folder: Target folder.
        model: The base model.
        members: LoRA adapters in folders.
        config: The job's section.

    Raises:
        ModelError: A member is not a LoRA adapter, or the combination needs equal shapes.
    """
    tuned = merge_adapters(model, members, config)
    tuned.save_pretrained(str(folder))
    return tuned.unload()


def _check(members: Sequence[Member], config: Merge) -> None:
    first = members[0]
    for member in members:
        if not member.is_lora:
            raise ModelError(
                f"compose.adapters.{member.name}: {member.folder} is no LoRA adapter, and only "
                f"LoRA adapters can be merged. Combine these in another way, such as "
                f"method: {{kind: gate}}"
            )
    for other in members[1:]:
        same = other.tree["r"] == first.tree["r"] and set(other.layers) == set(first.layers)
        if config.combination in SAME_SHAPE and not same:
            raise ModelError(
                f"compose.method.combination {config.combination} needs adapters of one rank and "
                f"the same targets: {first.name} has r {first.tree['r']} on {len(first.layers)} "
                f"layers, {other.name} has r {other.tree['r']} on {len(other.layers)}. Use cat, "
                f"svd or a combination that ends in _svd"
            )
