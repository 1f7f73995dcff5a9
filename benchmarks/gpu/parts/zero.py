"""ZeRO 2 and 3 on one device, with and without offload, against plain training."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

from benchmarks.gpu.case import Case, Measured, check_close
from benchmarks.gpu.runs import train, train_by_command
from benchmarks.gpu.scale import Scale

RELATIVE = {"fp32": 1e-4, "bf16": 1.6e-2}
SOURCE = (
    "fp32: sums in another order, as tests/parity/test_processes.py; bf16: "
    "https://docs.pytorch.org/docs/stable/testing.html"
)


def cases(scale: Scale) -> Iterator[Case]:
    """Yield each stage with and without offload to host memory; each is a separate command.

    On a CPU, two of them: tests/parity/test_processes.py has the others.
    """
    all_of_them = product(("fp32", "bf16"), (2, 3), ("none", "cpu"))
    tiny = (("fp32", 2, "cpu"), ("bf16", 3, "none"))
    for precision, stage, offload in all_of_them if scale.on_gpu else tiny:
        place = ", offload to host memory" if offload == "cpu" else ""
        run = partial(_compare, scale, stage, offload, precision)
        yield Case(f"ZeRO {stage}{place}, {precision}", run, is_slow=True)


def _compare(scale: Scale, stage: int, offload: str, precision: str, folder: Path) -> Measured:
    document = scale.job("small", precision=precision)
    plain = train(document, folder / "plain")
    document["sharding"] = {"zero": stage, "offload": offload}
    mine = train_by_command(document, folder / "zero")
    measured = {
        **mine.summary(),
        "losses": mine.losses,
        "plain_losses": plain.losses,
        "tolerance": RELATIVE[precision],
        "source": SOURCE,
    }
    check_close(measured, "the losses", mine.losses, plain.losses, RELATIVE[precision])
    return measured
