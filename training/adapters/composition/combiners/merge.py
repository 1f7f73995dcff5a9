"""Merged once into one LoRA adapter, as a weighted sum; PEFT does the sum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel

from training.adapters.composition.members import Member
from training.config.composition import SAME_SHAPE, Merge
from training.errors import ModelError


def merged(model: Any, members: Sequence[Member], how: Merge) -> PeftModel:
    """Return the model with one new adapter that is a weighted sum of the members.

    Raises:
        ModelError: They cannot be added.
    """
    _check(members, how)
    first = members[0]
    tuned = PeftModel.from_pretrained(model, str(first.folder), adapter_name=first.name)
    for other in members[1:]:
        tuned.load_adapter(str(other.folder), adapter_name=other.name)
    pruned = how.combination.startswith(("ties", "dare", "magnitude"))
    tuned.add_weighted_adapter(
        [member.name for member in members],
        list(how.weights or [1.0] * len(members)),
        "default",
        combination_type=how.combination,
        svd_rank=how.r,
        **({"density": how.density} if pruned else {}),
    )
    for member in members:
        tuned.delete_adapter(member.name)
    tuned.set_adapter("default")
    return tuned


def merged_in(folder: Path, model: Any, members: Sequence[Member], how: Merge) -> Any:
    """Write the weighted sum to a folder, as an adapter like any other; return the model as it was.

    Raises:
        ModelError: They cannot be added.
    """
    tuned = merged(model, members, how)
    tuned.save_pretrained(str(folder))
    return tuned.unload()


def _check(members: Sequence[Member], how: Merge) -> None:
    first = members[0]
    for member in members:
        if not member.is_lora:
            raise ModelError(
                f"compose.adapters.{member.name}: {member.folder} is no LoRA adapter, and only "
                f"updates of weights can be added. Let them meet in another way, such as "
                f"how: {{kind: gate}}"
            )
    for other in members[1:]:
        same = other.tree["r"] == first.tree["r"] and set(other.layers) == set(first.layers)
        if how.combination in SAME_SHAPE and not same:
            raise ModelError(
                f"compose.method.combination {how.combination} adds adapters of one rank and the same "
                f"targets: {first.name} has r {first.tree['r']} on {len(first.layers)} layers, "
                f"{other.name} r {other.tree['r']} on {len(other.layers)}. Use cat, svd or a form "
                f"that ends in _svd"
            )
