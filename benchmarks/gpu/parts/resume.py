"""Resumed runs against uninterrupted ones: the same rows, and the same losses to a tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.case import Case, CaseFailedError, Measured, check_close
from benchmarks.gpu.runs import train, train_until
from benchmarks.gpu.scale import Scale

TOLERANCE = {"cpu": 0.0, "cuda": 1e-5}
SOURCE = (
    "torchtune compares resumed losses with rtol=1e-5: "
    "https://github.com/meta-pytorch/torchtune/tree/main/tests/recipes"
)


def cases(scale: Scale) -> Iterator[Case]:
    """Yield a case for each precision and adapter; dropout needs the state of the generators."""
    dropout = {"kind": "lora", "r": 16, "dropout": 0.2}
    runs: list[tuple[str, dict[str, Any]]] = [
        ("LoRA with dropout, bf16", {"precision": "bf16", "adapter": dropout}),
        ("full, fp32", {"precision": "fp32"}),
        ("full, bf16", {"precision": "bf16"}),
    ]
    if scale.on_gpu:
        runs.append(("full, fp16 (loss scaler)", {"precision": "fp16"}))
    for name, sections in runs:
        run = partial(_resume, scale, sections)
        yield Case(name, run, is_slow="adapter" not in sections)


def _resume(scale: Scale, sections: dict[str, Any], folder: Path) -> Measured:
    cut = scale.steps // 2
    document = scale.job(**sections, checkpoint={"every": f"{cut} steps", "keep": 1})
    document["train"] = {**document["train"], "deterministic": scale.on_gpu}
    whole = train(document, folder / "whole")
    train_until(document, folder / "cut", cut)
    again = train(document, folder / "cut")
    tolerance = TOLERANCE[scale.device]
    measured = {
        **again.summary(),
        "resumed_after": cut,
        "losses": again.losses,
        "uninterrupted": whole.losses,
        "tolerance": tolerance,
        "source": SOURCE if tolerance else "bitwise",
    }
    if again.row_ids != whole.row_ids:
        raise CaseFailedError("the resumed run trained on other rows", measured)
    check_close(measured, "the losses", again.losses, whole.losses, tolerance)
    return measured
