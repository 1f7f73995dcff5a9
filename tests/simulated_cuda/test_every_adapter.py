"""Every kind of adapter stays on a CUDA device, in its job's precision; refusals are all known.

The device is simulated. The whole way from a job to its step is walked, with one layer and one
step. QLoRA's base is quantized by bitsandbytes, whose operators declare the shapes of their results
and have values on a CPU. Not walked: `train.compile`, whose compiler generates kernels for a real
device; sharded engines and flash attention, whose kernels are CUDA's own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.test_unions import ADAPTERS, kind_of
from tests.simulated_cuda.cells import (
    EVERY_KIND,
    METHODS,
    PRECISIONS,
    Cell,
    core,
    product,
    refusals,
    rows_in_bf16,
    write_inputs,
)
from tests.simulated_cuda.runner import needs_cpu_build, run
from training.config.load import parse_job
from training.errors import JobError


def faults(cells: list[Cell], home: Path) -> list[str]:
    """Return what is wrong: an error, a job that was not refused, a refusal for another reason."""
    write_inputs(home)
    results = run({cell.name: (None, cell.job(home)) for cell in cells}, home)
    found = []
    for cell in cells:
        result, words = results[cell.name], refusals(cell)
        if words:
            told = result["error"]
            if not (told.startswith("JobError") and all(reason in told for reason in words)):
                found.append(f"{cell.name} is not refused because {words}: {told}")
        elif result["error"]:
            found.append(f"{cell.name}: {result['error']} at {result['place']}")
        elif not result["losses"]:
            found.append(f"{cell.name}: took no step")
        elif (result["four_bit"] > 0) != (cell.adapter == "qlora"):
            found.append(f"{cell.name}: {result['four_bit']} operations on 4-bit weights")
    return found


def test_every_kind_of_adapter_has_cells() -> None:
    assert EVERY_KIND.keys() == {"none", *map(kind_of, ADAPTERS)}
    assert {cell.adapter for cell in core()} == EVERY_KIND.keys()


def test_jobs_are_refused_for_the_reasons_in_the_table(tmp_path: Path) -> None:
    """The table is written by hand, and job files are parsed; each of 420 agrees with it."""
    cells = product()
    assert len(cells) == len(METHODS) * len(EVERY_KIND) * len(PRECISIONS)
    for cell in cells:
        told = ""
        try:
            parse_job(cell.job(tmp_path), cell.name)
        except JobError as error:
            told = str(error)
        words = refusals(cell)
        assert bool(told) == bool(words), cell.name
        assert all(reason in told for reason in words), (cell.name, told)


@needs_cpu_build
@pytest.mark.slow
def test_a_core_of_combinations_stays_on_the_device(tmp_path: Path) -> None:
    assert not faults(core(), tmp_path)


@pytest.mark.slow
@needs_cpu_build
def test_every_method_that_learns_from_rows_stays_on_the_device_with_every_adapter(
    tmp_path: Path,
) -> None:
    """In bf16; QLoRA is in the core, and methods that sample are in `test_training_step.py`."""
    assert not faults(rows_in_bf16(), tmp_path)


@pytest.mark.slow
@pytest.mark.matrix
@needs_cpu_build
@pytest.mark.parametrize("method", METHODS)
def test_every_cell_of_the_product(method: str, tmp_path: Path) -> None:
    """About seven minutes of a processor together, in `make compatibility-cuda`."""
    cells = [cell for cell in product() if cell.method == method]
    assert len(cells) == len(EVERY_KIND) * len(PRECISIONS)
    assert not faults(cells, tmp_path)
