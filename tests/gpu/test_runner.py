"""The runner keeps the rows of all that ran, whatever happens to one case, part or process."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from benchmarks.gpu.results import ResultsFile
from benchmarks.gpu.runner import Runner
from benchmarks.gpu.section import write

PART = """
import os, time
from pathlib import Path
from benchmarks.gpu.case import Case, CaseFailedError, NotInstalledError, check_close

def fine(folder):
    return {"values": [1.0], "tolerance": 0.0}

def wrong(folder):
    check_close({"values": [1.0]}, "the losses", [1.0, 2.0], [1.0, 2.5], 1e-5)

def missing(folder):
    raise NotInstalledError("no such package")

def dying(folder):
    os.kill(os.getpid(), 9)

def cuda(folder):
    raise RuntimeError("CUDA error: device-side assert triggered")

def endless(folder):
    time.sleep(600)

def crowded(folder):
    assert not list(folder.iterdir()), "the folder of another case"
    (folder / "file").write_text("x")
    return {"pid": os.getpid()}

def cases(scale):
    for name, run in CASES:
        yield Case(name, run)
"""


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(name: str, *cases: str) -> str:
        module = f"gpu_parts_of_test.{name}"
        folder = tmp_path / "gpu_parts_of_test"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        pairs = ", ".join(f'("{case}", {case})' for case in cases)
        (folder / f"{name}.py").write_text(dedent(PART) + f"\nCASES = [{pairs}]\n")
        return module

    return make


def runner(home: Path, **settings: Any) -> Runner:
    results = ResultsFile(home / "results.jsonl")
    return Runner(
        **{"device": "cpu", "home": home, "results": results, "limit_s": 60.0, **settings}
    )


def statuses(one: Runner) -> dict[str, str]:
    return {row["case"]: row["status"] for row in one.results.rows()}


def test_each_outcome_is_a_row(part: Any, tmp_path: Path) -> None:
    name = part("all", "fine", "wrong", "missing", "crowded")
    one = runner(tmp_path / "home")
    assert not one.run(name)
    expected = {"fine": "ok", "wrong": "failed", "missing": "not installed", "crowded": "ok"}
    assert statuses(one) == expected
    rows = {row["case"]: row for row in one.results.rows()}
    assert "[1, 2] against [1, 2.5]" in rows["wrong"]["error"]
    assert rows["wrong"]["values"] == [1.0], "what was measured is kept"
    for row in rows.values():
        assert row["device"] == "cpu" and row["torch"] and row["versions"]["transformers"]


def test_process_that_dies_loses_one_case(part: Any, tmp_path: Path) -> None:
    name = part("death", "fine", "dying", "cuda", "crowded")
    one = runner(tmp_path / "home")
    assert not one.run(name)
    assert statuses(one) == {"fine": "ok", "dying": "stopped", "cuda": "error", "crowded": "ok"}
    row = next(row for row in one.results.rows() if row["case"] == "dying")
    assert "code -9" in row["error"]


def test_part_above_its_limit_is_stopped_and_recorded(part: Any, tmp_path: Path) -> None:
    name = part("slow", "fine", "endless", "crowded")
    one = runner(tmp_path / "home", limit_s=3.0)
    assert not one.run(name)
    assert statuses(one) == {"fine": "ok", "endless": "stopped"}
    row = one.results.rows()[-1]
    assert "above the limit of 3 s" in row["error"]


def test_module_that_cannot_be_imported_is_recorded(tmp_path: Path) -> None:
    one = runner(tmp_path / "home")
    assert not one.run("gpu_parts_of_test.absent")
    assert statuses(one) == {"(part)": "stopped"}
    assert "ModuleNotFoundError" in one.results.rows()[0]["log"]


def test_resume_runs_what_did_not_pass(part: Any, tmp_path: Path) -> None:
    name = part("again", "fine", "wrong", "missing", "crowded")
    assert not runner(tmp_path / "home").run(name)
    one = runner(tmp_path / "home", resume=True)
    assert not one.run(name)
    assert [row["case"] for row in one.results.rows()[4:]] == ["wrong"]
    # Without `resume` everything runs again.
    assert not runner(tmp_path / "home", only="fi").results.rows()[5:]
    assert runner(tmp_path / "home", only="fi").run(name)
    assert [row["case"] for row in one.results.rows()[5:]] == ["fine"]


def test_line_cut_short_by_a_dying_machine_is_dropped(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "results.jsonl")
    results.append("part", "case", "ok", "cpu", {"loss": 1.0})
    with results.path.open("a") as file:
        file.write('{"part": "part", "case": "oth')
    assert [row["case"] for row in results.rows()] == ["case"]


def test_section_has_the_latest_rows_of_a_gpu_only(tmp_path: Path) -> None:
    results, page = ResultsFile(tmp_path / "results.jsonl"), tmp_path / "README.md"
    results.append("precision", "full, bf16", "ok", "cpu", {"last_loss": 9.0})
    lines = [
        {"case": "full, bf16", "status": "failed", "error": "a | b"},
        {"case": "full, bf16", "status": "ok", "last_loss": 1.25},
        {"case": "full, fp16", "status": "error", "error": "out of\nmemory | x"},
    ]
    shared = {"part": "precision", "device": "cuda", "time": "2026-01-02T00:00:00Z", "torch": "2"}
    gpu = {"gpu": "NVIDIA H100", "driver": "580.1", "gpu_memory_gib": 79.6}
    with results.path.open("a") as file:
        file.writelines(json.dumps({**shared, **gpu, **line}) + "\n" for line in lines)
    page.write_text("# Benchmarks\n")
    write(results, page)
    text = page.read_text()
    assert "NVIDIA H100 (79.6 GiB), driver 580.1, torch 2" in text
    assert "| precision | 1 | 1 | 0 | 0 |" in text
    assert "| precision | full, bf16 | ok | last_loss 1.25 |" in text
    assert "| precision | full, fp16 | **error** | out of memory / x |" in text
    assert "9.0" not in text
