"""The training step of every method, adapter and precision stays on a CUDA device.

`tests/simulated_cuda/__init__.py` says how, and `test_every_adapter.py` has every kind of adapter.
What is not walked: sharded engines (ZeRO, FSDP), flash attention, compiled layers, and distill_text
and constitutional, whose training steps are those of sft and dpo and whose texts are generated in
other stages.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.contract.test_unions import METHODS as ALL_METHODS
from tests.contract.test_unions import kind_of
from tests.run_commands import read_jsonl, train_here
from tests.simulated_cuda.cells import METHODS, Cell, covering, write_inputs
from tests.simulated_cuda.runner import Results, needs_cpu_build, run
from tests.simulated_cuda.syncs import EVERY_STEP, EXPECTED

pytestmark = [pytest.mark.slow, needs_cpu_build]
OPERATORS = {"zeros on the CPU": "aten.add.Tensor", "arange on the CPU": "aten.mul.Tensor"}
"""Planted faults, and the operation that gets tensors of two devices."""
PLAIN = Cell("sft", "none", "fp32")


def run_all(cells: list[Cell], home: Path) -> Results:
    """Return the results of cells and of planted faults."""
    write_inputs(home)
    jobs: dict[str, Any] = {cell.name: (None, cell.job(home)) for cell in cells}
    for fault in (*OPERATORS, "tolist"):
        jobs[fault] = (fault, PLAIN.job(home))
    return run(jobs, home)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the results, which the workers of pytest-xdist share."""
    own = tmp_path_factory.getbasetemp()
    parent = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = parent / "simulated-cuda"
    with FileLock(parent / ".simulated-cuda.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            run_all(covering(), folder)
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="module")
def results(home: Path) -> Results:
    return {line.pop("cell"): line for line in read_jsonl(home / "results.jsonl")}


def faults(results: Results, cells: list[Cell]) -> list[str]:
    named = {cell.name: results[cell.name] for cell in cells}
    return [f"{n}: {r['error']} at {r['place']}" for n, r in named.items() if r["error"]]


def syncs(results: Results, cells: list[Cell]) -> set[tuple[str, str, str]]:
    return {
        (place, caller, reason)
        for cell in cells
        for place, caller, reason, _ in results[cell.name]["syncs"]
    }


def test_every_method_is_walked() -> None:
    """The steps of the two others are those of sft and dpo; the matrix has every adapter."""
    walked = {section["kind"] for section, _ in METHODS.values()}
    assert walked | {"distill_text", "constitutional"} == {kind_of(kind) for kind in ALL_METHODS}


def test_every_step_stays_on_the_device(results: Results) -> None:
    assert not faults(results, covering())
    assert all(len(results[cell.name]["losses"]) >= 2 for cell in covering())


def test_the_host_waits_only_where_the_table_says(results: Results) -> None:
    found = syncs(results, covering())
    assert found - EXPECTED.keys() == set(), "new waits for the device: avoid or explain them"
    assert EXPECTED.keys() - found == set(), "gone: remove them from tests/simulated_cuda/syncs.py"


def test_a_step_of_sft_waits_this_often(results: Results) -> None:
    counted = {(p, c, r): n / 2 for p, c, r, n in results[PLAIN.name]["syncs"]}
    assert counted == EVERY_STEP


@pytest.mark.parametrize("fault", OPERATORS)
def test_a_tensor_on_the_cpu_is_found_and_named(results: Results, fault: str) -> None:
    assert "two devices, cuda:0 and cpu" in results[fault]["error"]
    assert "tests/simulated_cuda/walk.py" in results[fault]["place"]
    assert OPERATORS[fault] in results[fault]["error"]
    assert not results[PLAIN.name]["error"]


def test_a_read_of_values_is_counted(results: Results) -> None:
    plain = {tuple(line[:3]): line[3] for line in results[PLAIN.name]["syncs"]}
    planted = {tuple(line[:3]): line[3] for line in results["tolist"]["syncs"]}
    assert not results["tolist"]["error"]
    assert sum(planted.values()) > sum(plain.values())


def test_losses_are_those_of_the_cpu(home: Path, results: Results, tmp_path: Path) -> None:
    """The simulated device computes what the CPU does, so its branches are those of a real run."""
    losses = train_here(PLAIN.job(home), tmp_path).losses
    assert results[PLAIN.name]["losses"] == pytest.approx(losses, abs=1e-5)
