"""Loss curves of bf16 and fp16 against fp32."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.case import Case, CaseFailedError, Measured, check_close
from benchmarks.gpu.runs import Logged, train
from benchmarks.gpu.scale import Scale

RELATIVE = {"fp16": 1e-3, "bf16": 1.6e-2}
SOURCE = "relative tolerance of torch.testing: https://docs.pytorch.org/docs/stable/testing.html"


def cases(scale: Scale) -> Iterator[Case]:
    """Yield a case for each precision and kind of training."""
    for kind in ("full", "LoRA"):
        for precision in ("bf16", "fp16"):
            run = partial(_compare, scale, kind, precision)
            yield Case(f"{kind}, {precision}", run, is_slow=kind == "LoRA")


def _compare(scale: Scale, kind: str, precision: str, folder: Path) -> Measured:
    document = scale.job("small")
    if kind == "LoRA":
        document = scale.job("1B", adapter={"kind": "lora", "r": 16})
    if precision == "fp16" and not scale.on_gpu:
        return _refused({**document, "precision": "fp16"}, folder)
    exact = train({**document, "precision": "fp32"}, folder / "fp32")
    mine = train({**document, "precision": precision}, folder / precision)
    # The loss scaler of fp16 skips steps while it searches for a scale; curves differ from there.
    same = _before_the_first_skip(mine)
    tolerance = RELATIVE[precision] if same == 1 else RELATIVE["bf16"]
    measured = {
        **mine.summary(),
        "losses": mine.losses,
        "fp32": exact.losses,
        "compared_steps": same,
        "skipped_steps": sum(math.isnan(n) for n in mine.grad_norms),
        "tolerance": tolerance,
        "source": SOURCE,
    }
    check_close(measured, "the losses", mine.losses[:same], exact.losses[:same], tolerance)
    return measured


def _before_the_first_skip(run: Logged) -> int:
    """Return the number of steps up to and including the first one that was skipped."""
    skipped = [n for n, norm in enumerate(run.grad_norms, 1) if not math.isfinite(norm)]
    return min([*skipped, len(run.losses)])


def _refused(document: dict[str, Any], folder: Path) -> Measured:
    from training.errors import DeviceError

    try:
        train(document, folder / "refused")
    except DeviceError as error:
        return {"refused": str(error)}
    raise CaseFailedError("fp16 trained on a CPU, where it must be refused", {})
