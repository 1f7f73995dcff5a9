"""A source that changes while it is prepared, files without text, and threads of workers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from datatrove.pipeline.base import PipelineStep

from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.executors.local import LocalTasks
from preparation.executors.nodes import Barrier, Node
from preparation.passes import examine_rows
from preparation.plan import PreparationPlan, plan
from preparation.storage import open_folder
from tests.unit.preparation.extract import files
from tests.unit.preparation.extract.test_odd_files import encrypted_pdf
from training.errors import DataError, RunError


def _planned(tmp_path: Path, source: Path) -> PreparationPlan:
    settings = {"sources": str(source), "output": str(tmp_path / "out"), "workers": 1}
    return plan(parse_preparation({"name": "tidy", "prepare": settings}, "job.yaml"))


def _rows(path: Path, count: int) -> Path:
    path.write_text("".join(f'{{"text": "row number {n} of many"}}\n' for n in range(count)))
    return path


def _visible(tmp_path: Path) -> list[str]:
    folder = tmp_path / "out" / "tidy"
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def test_a_source_that_grows_after_the_plan_is_named(tmp_path: Path) -> None:
    data = _rows(tmp_path / "a.jsonl", 5)
    planned = _planned(tmp_path, data)
    size = data.stat().st_size
    with data.open("a") as stream:
        stream.write('{"text": "late"}\n')
    with pytest.raises(
        DataError, match=rf"a\.jsonl: its size was {size} bytes, and is {size + 17}"
    ):
        build(planned, lambda *_: None)
    assert _visible(tmp_path) == []
    assert Path(build(_planned(tmp_path, data), lambda *_: None)).is_dir()


def test_a_change_in_the_middle_of_reading_explains_a_damaged_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _rows(tmp_path / "a.jsonl", 5)
    state = data.stat()
    read_records = examine_rows.read_records

    def read(*arguments: Any) -> Any:
        for number, record in enumerate(read_records(*arguments)):
            if number == 2:  # of the same size, so that only its time tells
                data.write_bytes(data.read_bytes().replace(b"row", b"raw"))
                os.utime(data, ns=(state.st_atime_ns, state.st_mtime_ns + 2_000_000))
            yield record
        raise DataError("a.jsonl: the last record is cut short")

    monkeypatch.setattr(examine_rows, "read_records", read)
    with pytest.raises(DataError, match=r"a\.jsonl: it was modified .*, and again "):
        build(_planned(tmp_path, data), lambda *_: None)
    assert _visible(tmp_path) == []


def test_a_change_between_passes_is_noticed_before_the_result_is_published(tmp_path: Path) -> None:
    data = _rows(tmp_path / "a.jsonl", 5)
    planned = _planned(tmp_path, data)

    def progress(name: str, done: int, total: int) -> None:
        if name == "write" and done == 0:
            data.unlink()

    with pytest.raises(DataError, match=r"a\.jsonl: it can no longer be read \(No such file"):
        build(planned, progress)
    assert _visible(tmp_path) == []


def test_the_first_node_publishes_only_after_all_nodes_have_checked(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    Barrier(Node(1, 3, "a"), folder).gather()
    Barrier(Node(2, 3, "a"), folder).fail(DataError("a.jsonl: changed"))
    with pytest.raises(RunError, match=r"node 2 failed: a\.jsonl: changed"):
        Barrier(Node(0, 3, "a"), folder).gather()
    Barrier(Node(1, 2, "b"), folder).gather()
    Barrier(Node(0, 2, "b"), folder).gather()


class ThreadsOfWorker(PipelineStep):
    """Task that writes its process and the threads of the libraries under NumPy."""

    name = "Threads of worker"
    type = "Test"

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the threads of each library that is loaded."""
        import numpy as np  # noqa: F401 (loads its libraries)
        from threadpoolctl import threadpool_info

        found = [pool["num_threads"] for pool in threadpool_info()]
        (self.folder / f"{rank}.json").write_text(json.dumps([os.getpid(), found]))


def test_workers_have_one_thread_and_this_process_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    logs = open_folder(str(tmp_path / "logs"))
    with LocalTasks(2, 2, None) as local:
        local.run([ThreadsOfWorker(tmp_path)], 2, range(2), logs, lambda *_: None)
    for rank in range(2):
        process, threads = json.loads((tmp_path / f"{rank}.json").read_text())
        assert process != os.getpid()
        assert threads and set(threads) == {1}
    assert os.environ["OMP_NUM_THREADS"] == "2" and "MKL_NUM_THREADS" not in os.environ


def test_files_without_text_are_named_with_what_would_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "locked.pdf").write_bytes(encrypted_pdf("user"))
    (folder / "scan.pdf").write_bytes(files.pdf([["x"], ["y"]], image=True))
    (folder / "page.pdf").write_bytes(files.pdf([["A readable line of text."]]))
    result = Path(build(_planned(tmp_path, folder), lambda *_: None))
    rejected = {row["row"]: row for row in map(json.loads, (result / "rejected.jsonl").open())}
    assert {name: row["reason"] for name, row in rejected.items()} == {
        "locked.pdf": "encrypted", "scan.pdf": "needs_ocr",
    }  # fmt: skip
    assert "password" in rejected["locked.pdf"]["detail"]
    assert "OCR" in rejected["scan.pdf"]["detail"]
    report = json.loads((result / "report.json").read_text())
    assert report["steps"][0]["rejected"] == {"encrypted": 1, "needs_ocr": 1}
    assert (report["rows_read"], report["rows_written"]) == (3, 1)
