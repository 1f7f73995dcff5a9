"""Write `docs/compatibility.md` from the results of the matrix: `make compatibility`.

Cells tested in this run replace those on the page; the others are kept. `make compatibility-cuda`
adds `--cuda-walked` to write the date of a complete walk on the simulated CUDA device.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from datetime import UTC, datetime
from itertools import chain

from tests.matrix.cells import (
    CHECKPOINTING,
    FOUR_BIT,
    KINDS,
    PRECISIONS,
    ZERO,
    Cell,
    all_cells,
)
from tests.matrix.matrix_runner import Results
from tests.moe_models import BALANCED
from tests.moe_models import FAMILIES as EXPERT_FAMILIES
from tests.parity.test_static_shapes import METHODS as STATIC_METHODS
from tests.run_commands import ROOT
from tests.simulated_cuda.cells import core, product, refusals, rows_in_bf16
from tests.simulated_cuda.cells import covering as covering_on_cuda

PAGE = ROOT / "docs/compatibility.md"
RESULTS = ROOT / "runs/.matrix"
"""Folder of the results, one file per family of adapters."""
_GREEN = "✓"
_HEAD = """# Compatibility of adapters

Written by `make compatibility` from the results of `tests/matrix`, never by hand. Each cell is a
job on two processes with that adapter, precision, gradient checkpointing (activations kept or
computed again), ZeRO stage and base (as it is, or in 4 bits), tested end to end:

1. trained until every trainable tensor changed and the held-out loss fell; saved, read back;
2. loaded by PEFT with its base, with the held-out loss that it reached in training;
3. resumed from a checkpoint, to the same weights;
4. exported as an adapter, read again, and merged into its base and compared logit by logit; if it
   cannot be merged, the merge is refused with the reason.

✓ all steps passed. A number: refused before training, with the message below.
"""


def render(results: Results, cuda_walked: str) -> str:
    """Return the page.

    Args:
        results: Results of the matrix.
        cuda_walked: Day of the last complete walk on the simulated CUDA device; empty if none.

    Raises:
        KeyError: A cell was not tested.
    """
    notes: dict[str, int] = {}
    lines = [_HEAD]
    columns = _columns()
    heads = [f"ZeRO {zero}{', 4-bit base' if four else ''}" for zero, four in columns]
    lines.append("| adapter | precision | activations | " + " | ".join(heads) + " |")
    lines.append("|" + " --- |" * (3 + len(columns)))
    for kind, precision, again in _rows():
        marks = [
            _mark(results[Cell(kind, precision, again, zero, four).name], notes)
            for zero, four in columns
        ]
        lines.append(f"{_start_of(kind, precision, again)} {' | '.join(marks)} |")
    lines.append("")
    lines += [f"{number}. {said}." for said, number in notes.items()]
    outcomes = [results[cell.name]["outcome"] for cell in all_cells()]
    green, refused = outcomes.count("passed"), outcomes.count("refused")
    lines += ["", f"{len(outcomes)} cells: {green} proved, {refused} refused.", ""]
    lines += [*_mixtures(), *_static_shapes(), *_simulated_cuda(cuda_walked)]
    return "\n".join(lines) + "\n"


_MIXTURES = """## Mixtures of experts

Tiny models of each family are trained, saved, loaded by Transformers or PEFT, resumed bit for bit
and merged, and their loss is compared with that of Transformers
(`tests/invariant/test_moe_runs.py`, `tests/parity/test_expert_adapters.py`,
`tests/parity/test_balance_loss.py`).
[Mixtures of experts](mixtures-of-experts.md) has more.

| model type | all weights | LoRA on experts | load-balancing loss |
| --- | --- | --- | --- |"""
_STATIC_SHAPES = """
## Static shapes

With `train.static_shapes`, as on Trainium, a run of 200 steps has at most two input shapes,
evaluation included, and the losses of the ordinary path, measured on a CPU
(`tests/parity/test_static_shapes.py`). A third shape stops the run. Methods that sample answers
are refused on Trainium: an answer grows token by token.
"""


def _mixtures() -> list[str]:
    """Return the section of the families that the tests of mixtures of experts train."""
    rows = [
        f"| {family} | ✓ | ✓ | {'✓' if family in BALANCED else 'none: balanced by a bias'} |"
        for family in EXPERT_FAMILIES
    ]
    return [_MIXTURES, *rows]


def _static_shapes() -> list[str]:
    """Return the section of the methods that are trained with static shapes."""
    return [_STATIC_SHAPES, *textwrap.wrap(f"Tested: {'; '.join(STATIC_METHODS)}.", 100)]


def _simulated_cuda(walked: str) -> list[str]:
    """Return the section of the jobs that are walked on the simulated CUDA device."""
    cells = product()
    refused = sum(bool(refusals(cell)) for cell in cells)
    in_ci = {*core(), *rows_in_bf16()}
    last = f"{_WALKED}{walked}." if walked else "No complete walk is recorded yet."
    in_ci_text = f"""Every method with every kind of adapter in fp32, bf16 and fp16: {len(cells)}
        jobs, of which {refused} are refused by name. A job is walked from its file to a step, on a
        CUDA device that is simulated on a CPU (`tests/simulated_cuda`): a tensor on the wrong
        device or in the wrong precision stops it. The tests of every change parse all {len(cells)}
        and walk {len(core())} of them; with the slow tests, {len(in_ci)} are walked. Besides these,
        {len(covering_on_cuda())} jobs of two layers and two steps are walked, and their waits for
        the device counted."""
    command_text = f"""`make compatibility-cuda` walks all {len(cells)}, in about seven minutes of a
        processor. {last}"""
    paragraphs = [" ".join(text.split()) for text in (in_ci_text, command_text)]
    lines = [["", *textwrap.wrap(text, 100, break_on_hyphens=False)] for text in paragraphs]
    return ["", "## Simulated CUDA device", *chain(*lines)]


_WALKED = "It last passed on "


def cuda_walked(page: str) -> str:
    """Return the day of the last complete walk that a page records; empty if it has none."""
    found = re.search(_WALKED.replace(" ", r"\s+") + r"(\d{4}-\d\d-\d\d)", page)
    return found[1] if found else ""


def read(page: str) -> Results:
    """Return the result of each cell on a page, by the cell's name."""
    lines = page.splitlines()
    notes = dict(re.findall(r"^(\d+)\. (.*)\.$", page, re.MULTILINE))
    found = {}
    for kind, precision, again in _rows():
        start = _start_of(kind, precision, again)
        row = next((line for line in lines if line.startswith(start)), None)
        if row is None:
            continue
        for (zero, four), mark in zip(_columns(), row.strip(" |").split(" | ")[3:], strict=True):
            outcome = "refused" if mark.isdigit() else "passed" if mark == _GREEN else "failed"
            name = Cell(kind, precision, again, zero, four).name
            found[name] = {"outcome": outcome, "said": notes.get(mark, "")}
    return found


def _columns() -> list[tuple[int, bool]]:
    return [(zero, four) for four in FOUR_BIT for zero in ZERO]


def _rows() -> list[tuple[str, str, bool]]:
    return [(kind, p, again) for kind in KINDS for p in PRECISIONS for again in CHECKPOINTING]


def _start_of(kind: str, precision: str, again: bool) -> str:
    return f"| {kind} | {precision} | {'computed again' if again else 'kept'} |"


def _mark(found: dict[str, str], notes: dict[str, int]) -> str:
    if found["outcome"] == "refused":
        return str(notes.setdefault(found["said"], len(notes) + 1))
    return {"passed": _GREEN, "failed": "**fails**"}[found["outcome"]]


def main(*, walked_today: bool) -> None:
    """Write the page.

    Args:
        walked_today: All jobs on the simulated CUDA device have just passed.
    """
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    everything = read(page)
    for path in sorted(RESULTS.glob("*.json")):
        everything |= json.loads(path.read_text())
    if missing := [cell.name for cell in all_cells() if cell.name not in everything]:
        sys.exit(f"{len(missing)} cells were never tested, {missing[0]}, …")
    day = f"{datetime.now(UTC):%Y-%m-%d}" if walked_today else cuda_walked(page)
    text = render(everything, day)
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(next(line for line in text.splitlines() if "cells:" in line) + "\n")


if __name__ == "__main__":
    main(walked_today="--cuda-walked" in sys.argv[1:])
