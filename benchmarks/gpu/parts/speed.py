"""Tokens per second and model FLOPs utilization of Temper and of other packages, on the same rows.

Plain TRL runs in this process. A group is another package, which runs in an interpreter of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.case import Case, CaseFailedError, Measured
from benchmarks.gpu.peers.interpreter import PEERS, Peer
from benchmarks.gpu.peers.settings import PeerSettings
from benchmarks.gpu.runs import release_memory, train
from benchmarks.gpu.scale import Scale, Size

_WARM_UP = 2
_LORA = {"kind": "lora", "r": 16, "alpha": 32, "dropout": 0.0}


def cases(scale: Scale, group: str = "") -> Iterator[Case]:
    """Yield each model and kind of training, of Temper and then of TRL, or of one peer."""
    sizes: tuple[tuple[Size, bool, int], ...] = (("1B", False, 4), ("1B", True, 4), ("8B", True, 2))
    contestants = (("Temper", _temper), ("TRL", _trl))
    if group:
        sizes = sizes if scale.on_gpu else sizes[:2]
        contestants = ((PEERS[group].name, partial(_peer, PEERS[group])),)
    elif not scale.on_gpu:
        sizes = sizes[1:2]
    for size, lora, rows in sizes:
        kind = "LoRA" if lora else "full"
        for name, run in contestants:
            measured = partial(run, scale, size, lora, rows)
            yield Case(f"{size}, {kind}, {rows} × {_length(scale)} tokens: {name}", measured, True)


def _length(scale: Scale) -> int:
    return 2048 if scale.on_gpu else 64


def _steps(scale: Scale) -> int:
    return 12 if scale.on_gpu else 4


def _temper(scale: Scale, size: Size, lora: bool, rows: int, folder: Path) -> Measured:
    document = scale.job(
        size,
        rows="long",
        method={"kind": "pretrain"},
        precision="bf16",
        data={"max_length": _length(scale)},
        train={
            "max_steps": _steps(scale),
            "global_batch_size": rows,
            "micro_batch_size": rows,
            "gradient_checkpointing": True,
        },
        **({"adapter": _LORA} if lora else {}),
    )
    run = train(document, folder / "run")
    speeds = [step["tokens_per_second"] for step in run.steps[_WARM_UP:]]
    return _result(run.losses, median(speeds), scale, size, lora, run.peak_gib)


def _trl(scale: Scale, size: Size, lora: bool, rows: int, folder: Path) -> Measured:
    """Train by a plain TRL script: fp32 weights and bf16 autocast, or a bf16 base under LoRA."""
    import time

    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ends: list[float] = []
    losses: list[float] = []

    class StepClock(TrainerCallback):
        """Callback that records when steps end and their losses."""

        def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
            """Record a step; its loss has been read, so the GPU has finished it."""
            if logs and "loss" in logs:
                ends.append(time.monotonic())
                losses.append(float(logs["loss"]))

    release_memory()
    if scale.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    trainer = SFTTrainer(
        model=str(scale.model(size)),
        args=SFTConfig(
            output_dir=str(folder / "trl"),
            max_steps=_steps(scale),
            max_length=_length(scale),
            per_device_train_batch_size=rows,
            learning_rate=1e-4,
            bf16=True,
            use_cpu=not scale.on_gpu,
            gradient_checkpointing=True,
            model_init_kwargs={"dtype": "bfloat16" if lora else "float32"},
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=load_dataset(
            "json", data_files=str(scale.rows / "long.jsonl"), split="train"
        ),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear") if lora else None,
        callbacks=[StepClock()],
    )
    trainer.train()
    peak = torch.cuda.max_memory_allocated() / 2**30 if scale.on_gpu else None
    del trainer
    release_memory()
    # Every row is longer than the limit, so there is no padding.
    seconds = median(b - a for a, b in pairwise(ends[_WARM_UP - 1 :]))
    return _result(losses, rows * _length(scale) / seconds, scale, size, lora, peak)


def _peer(peer: Peer, scale: Scale, size: Size, lora: bool, rows: int, folder: Path) -> Measured:
    versions = peer.versions(scale.home, on_gpu=scale.on_gpu)
    settings = PeerSettings(
        model=str(scale.model(size)),
        rows=str(scale.rows / "long.jsonl"),
        folder=str(folder / peer.package),
        batch=rows,
        length=_length(scale),
        steps=_steps(scale),
        lora=lora,
        on_gpu=scale.on_gpu,
    )
    release_memory()
    lengths, *steps = peer.run(settings, scale.home)
    steps = steps[: settings.steps]
    measured = {
        "versions_of_peer": versions,
        "weights": "bf16 base" if lora else peer.weights,
        "steps": len(steps),
        **lengths,
    }
    if lengths["lengths"] != [settings.length] or len(steps) < settings.steps:
        raise CaseFailedError(
            f"{peer.name} trained {len(steps)} steps of {settings.steps}, on rows of "
            f"{lengths['lengths']} tokens; they must all have {settings.length}",
            measured,
        )
    seconds = median(b["end_s"] - a["end_s"] for a, b in pairwise(steps[_WARM_UP - 1 :]))
    losses = [step["loss"] for step in steps]
    speed = rows * settings.length / seconds
    peak = steps[-1].get("peak_gib")
    return {**measured, **_result(losses, speed, scale, size, lora, peak)}


def _result(
    losses: list[float], speed: float, scale: Scale, size: Size, lora: bool, peak_gib: float | None
) -> Measured:
    """Return the values of a row.

    Args:
        losses: Loss of each step.
        speed: Tokens per second.
        scale: Device and sizes.
        size: Model that was trained.
        lora: Whether its weights are frozen under a LoRA adapter.
        peak_gib: Peak of the allocator.
    """
    measured: dict[str, Any] = {
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "tokens_per_second": speed,
        "mfu": _mfu(scale, size, lora, speed),
        "source": "Chowdhery et al. 2022, arXiv:2204.02311, appendix B; recomputation not counted",
    }
    if peak_gib is not None:
        measured["peak_gib"] = peak_gib
    if not all(map(math.isfinite, [*losses, speed])):
        raise CaseFailedError("a loss or the speed is not finite", measured)
    return measured


def _mfu(scale: Scale, size: Size, lora: bool, speed: float) -> float | None:
    """Return the share of the GPU's dense bf16 peak; None if the catalog lacks the GPU."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from catalog.accelerators import peak_flops
    from training.models.flops import device_name, flops_per_token

    peak = peak_flops(device_name(), "bf16")
    if not peak:
        return None
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(scale.model(size))
        model = AutoModelForCausalLM.from_config(config)
        if lora:
            model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear"))
    return speed * flops_per_token(model, _length(scale)) / peak
