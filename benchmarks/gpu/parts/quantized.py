"""QLoRA and 8-bit optimizers of bitsandbytes, against 16-bit weights and 32-bit states."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.case import Case, CaseFailedError, Measured, check_close
from benchmarks.gpu.runs import default_callback, train
from benchmarks.gpu.scale import Scale

OPTIMIZERS = 1.6e-2
_OPTIMIZER_SOURCE = (
    "8-bit states keep the loss of 32-bit ones (Dettmers et al. 2021, arXiv:2110.02861); the "
    "tolerance is that of bf16 in torch.testing"
)
NF4 = 0.1
_NF4_SOURCE = (
    "mean absolute error of NF4 blocks relative to their largest weight: Dettmers et al. 2023, "
    "arXiv:2305.14314, give no bound for random weights; above a tenth the base is another model"
)


def cases(scale: Scale) -> Iterator[Case]:
    """Yield QLoRA with and without gradient checkpointing, and each 8-bit optimizer."""
    for checkpointing in (False, True):
        name = "QLoRA, bf16, checkpointing" if checkpointing else "QLoRA, bf16"
        yield Case(name, partial(_qlora, scale, checkpointing), is_slow=not checkpointing)
    for optimizer in ("adamw_8bit", "paged_adamw_8bit"):
        run = partial(_optimizer, scale, optimizer)
        yield Case(optimizer, run, is_slow=True)


def _qlora(scale: Scale, checkpointing: bool, folder: Path) -> Measured:
    held: dict[str, int] = {}
    document = scale.job("1B", precision="bf16", train={"gradient_checkpointing": checkpointing})
    plain = train({**document, "adapter": {"kind": "lora", "r": 16}}, folder / "lora")
    with _base_bytes(held):
        mine = train({**document, "adapter": {"kind": "qlora", "r": 16}}, folder / "qlora")
    measured = {
        **mine.summary(),
        **held,
        "bytes_per_weight": held["packed_bytes"] / max(held["packed_weights"], 1),
        "lora_losses": plain.losses,
        "losses": mine.losses,
        "tolerance": NF4,
        "source": _NF4_SOURCE,
    }
    if measured["bytes_per_weight"] != 0.5:
        raise CaseFailedError(
            f"the base has {measured['bytes_per_weight']} bytes per weight; 4 bits are 0.5",
            measured,
        )
    check_close(measured, "the losses", mine.losses, plain.losses, NF4)
    return measured


def _base_bytes(held: dict[str, int]) -> Any:
    """Record the size of the 4-bit weights when training starts."""
    from transformers import TrainerCallback, trainer

    class WeightCounter(TrainerCallback):
        """Callback that counts the packed weights of the model."""

        def on_train_begin(self, *_: Any, model: Any = None, **__: Any) -> None:
            """Count them."""
            packed = [p for p in model.parameters() if getattr(p, "quant_state", None) is not None]
            held["packed_bytes"] = sum(p.numel() * p.element_size() for p in packed)
            held["packed_weights"] = sum(p.quant_state.shape.numel() for p in packed)
            states = [t for p in packed for t in p.quant_state.as_dict(packed=True).values()]
            held["scale_bytes"] = sum(t.numel() * t.element_size() for t in states)

    return default_callback(trainer, WeightCounter())


def _optimizer(scale: Scale, optimizer: str, folder: Path) -> Measured:
    document = scale.job("small", precision="bf16")
    plain = train(document, folder / "adamw")
    document["train"] = {**document["train"], "optimizer": optimizer}
    mine = train(document, folder / optimizer)
    measured = {
        **mine.summary(),
        "losses": mine.losses,
        "adamw_losses": plain.losses,
        "adamw_peak_gib": plain.peak_gib,
        "tolerance": OPTIMIZERS,
        "source": _OPTIMIZER_SOURCE,
    }
    check_close(measured, "the losses", mine.losses, plain.losses, OPTIMIZERS)
    return measured
