"""Every case of the GPU benchmark passes, on a CPU at a tiny scale and on a GPU at full scale.

`make gpu-test` runs the cases at full scale. They are the same cases, so that a machine without a
GPU proves their code. Those of a GPU have the mark `gpu`, and are deselected where there is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import PARTS
from benchmarks.gpu.case import Case, NotInstalledError
from benchmarks.gpu.run_part import cases_of
from benchmarks.gpu.scale import Scale


def scale_of(device: str, home: Path) -> Scale:
    assert device in ("cpu", "cuda")
    return Scale(device, home)


def params(device: str) -> list[object]:
    """Return a parameter for each case; models and rows are made only when one runs."""
    cases = [(part, case) for part in PARTS for case in cases_of(part, scale_of(device, Path()))]
    marks = {True: [pytest.mark.slow], False: []}
    gpu = [pytest.mark.gpu] if device == "cuda" else []
    return [
        pytest.param(device, part, case.name, id=f"{device}-{part}-{case.name}",
                     marks=gpu or marks[case.is_slow])
        for part, case in cases
    ]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


def case_named(part: str, name: str, scale: Scale) -> Case:
    return next(case for case in cases_of(part, scale) if case.name == name)


@pytest.mark.parametrize(("device", "part", "name"), [*params("cpu"), *params("cuda")])
def test_case(device: str, part: str, name: str, home: Path, tmp_path: Path) -> None:
    case = case_named(part, name, scale_of(device, home))
    try:
        measured = case.run(tmp_path)
    except NotInstalledError as missing:
        pytest.skip(str(missing))
    assert measured
