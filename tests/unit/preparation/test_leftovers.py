"""Folders of interrupted preparations: named while they can be resumed, removed after a week."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from preparation.config.load import load_preparation
from preparation.executors.local import WORKERS_LOCK
from preparation.leftovers import RUN_LOCK, remove_leftovers
from preparation.plan import PreparationPlan, plan


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreparationPlan:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"text": "one two three"}\n')
    (tmp_path / "job.yaml").write_text("name: a\nprepare: {sources: a.jsonl}\n")
    return plan(load_preparation(tmp_path / "job.yaml"))


def _leave(name: str, days: float) -> Path:
    folder = Path("prepared/a", name)
    (folder / "examine").mkdir(parents=True)
    (folder / RUN_LOCK).touch()
    (folder / "examine/00000.rows").write_bytes(b"x" * 3 * 1024 * 1024)
    then = time.time() - days * 24 * 3600
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then))
    return folder


def test_a_week_old_folder_is_removed_and_a_younger_one_named(planned: PreparationPlan) -> None:
    old, young = _leave(".building-1", 8), _leave(".building-2", 6)
    own, other = _leave(Path(planned.building).name, 30), _leave("0123456789abcdef", 30)
    lines: list[str] = []
    remove_leftovers(planned, lines.append)
    assert [old.exists(), young.exists(), own.exists(), other.exists()] == [False, True, True, True]
    assert lines[0].startswith(f"removed: {old} (3.0 MiB, of ")
    assert lines[1].startswith(f"unfinished: {young} (3.0 MiB") and "can be deleted" in lines[1]


def test_a_folder_in_which_a_file_is_new_is_kept(planned: PreparationPlan) -> None:
    """Nodes that share a preparation hold no lock; a long pass writes deep inside."""
    folder = _leave(".building-1", 8)
    (folder / "examine/00001.rows").touch()
    os.utime(folder, (0, 0))
    remove_leftovers(planned, lambda line: None)
    assert folder.exists()


@pytest.mark.parametrize("lock", [RUN_LOCK, WORKERS_LOCK])
def test_a_folder_that_a_process_uses_is_left_alone(planned: PreparationPlan, lock: str) -> None:
    folder = _leave(".building-1", 8)
    with (folder / lock).open("w") as held:
        os.utime(folder / lock, (0, 0))
        os.utime(folder, (0, 0))
        fcntl.flock(held, fcntl.LOCK_SH)
        lines: list[str] = []
        remove_leftovers(planned, lines.append)
        assert folder.exists() and not lines
    remove_leftovers(planned, lines.append)
    assert not folder.exists() and len(lines) == 1
