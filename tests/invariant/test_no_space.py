"""A full disk, or one that cannot be written: the run stops, says so, and has lost nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import (
    ROOT,
    assert_identical,
    changed,
    finish,
    kill_all,
    latest,
    leftovers,
    start_command,
    steps_taken,
    train_by_command,
    train_here,
    wait_until,
)
from training.trainer.checkpoints import find_corruption

SMALL_DISK_MIB = 24


def _mount(folder: Path) -> str | None:
    """Mount a small disk; return why not where that is impossible."""
    if os.geteuid() != 0:
        return "needs root to mount a small disk"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"cannot mount a small disk: {done.stderr.strip()}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if why := _mount(folder):
        pytest.skip(why)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave_bytes: int) -> Path:
    """Write a file that leaves so much space."""
    ballast = disk / "ballast"
    room = os.statvfs(disk)
    size = room.f_bavail * room.f_frsize - leave_bytes
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return ballast


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.parametrize("leave_bytes", [200_000, 0], ids=["almost full", "full"])
def test_full_disk(
    document: dict[str, Any], small_disk: Path, tmp_path: Path, leave_bytes: int
) -> None:
    job = changed(document, train={"max_steps": 200}, checkpoint={"every": "10 steps", "keep": 2})
    process = start_command(job, small_disk)
    assert wait_until(lambda: steps_taken(job, small_disk) >= 25, process)
    ballast = fill(small_disk, leave_bytes)
    ended = finish(process)
    assert ended.code == 4, ended.out + ended.err
    assert "space" in ended.err or "full" in ended.err
    assert "same command" in ended.err
    assert "Traceback" not in ended.err
    run = latest(job, small_disk)
    assert not (run.path / "model").exists()
    newest = run.checkpoints[-1]
    assert find_corruption(run.path / "checkpoints" / newest) is None
    assert newest in ended.err, "does not say which checkpoint is intact"

    ballast.unlink()
    again = train_by_command(job, small_disk)
    assert again.path == run.path
    assert again.state == "finished"
    assert leftovers(again) == []
    assert_identical(again, train_here(job, tmp_path / "elsewhere"))
    assert [s["step"] for s in again.samples] == list(range(1, 201))


@pytest.mark.slow
@pytest.mark.root
def test_a_preparation_on_a_full_disk_is_resumed(small_disk: Path, tmp_path: Path) -> None:
    rows = [{"text": " ".join(f"word{n * i}" for i in range(150))} for n in range(500)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(output: Path) -> subprocess.CompletedProcess[str]:
        prepare = {
            "sources": str(tmp_path / "rows.jsonl"),
            "steps": [{"step": "duplicates"}],
            "output": str(output),
            "workers": 1,
        }
        job = tmp_path / "job.yaml"
        job.write_text(json.dumps({"name": "tidy", "prepare": prepare}))
        return subprocess.run(
            [sys.executable, "-m", "temper", "prepare", str(job)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    ballast = fill(small_disk, 100_000)
    full = command(small_disk)
    assert full.returncode == 4, full.stdout + full.stderr
    assert "No space left on device. The same command resumes" in full.stderr
    assert "Traceback" not in full.stderr
    assert not (small_disk / "tidy/latest").exists()

    ballast.unlink()
    resumed, whole = command(small_disk), command(tmp_path / "elsewhere")
    assert (resumed.returncode, whole.returncode) == (0, 0), resumed.stderr + whole.stderr
    assert_same_files(small_disk / "tidy/latest", tmp_path / "elsewhere/tidy/latest")


def assert_same_files(one: Path, other: Path) -> None:
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (one.resolve(), other.resolve())
    ]
    assert contents[0] == contents[1] and contents[0]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be written, whoever asks."""
    folder = tmp_path / "runs"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    # Root writes whatever the permissions say, but not to a disk that is mounted so.
    for options in (["--bind"], ["-o", "remount,bind,ro"]):
        done = subprocess.run(
            ["mount", *options, str(folder), str(folder)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("root, and cannot mount a folder read-only here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_read_only_runs_folder(
    document: dict[str, Any], read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = finish(start_command(document, read_only.parent))
    assert ended.code == 4
    assert "cannot be written" in ended.err
    assert "--runs" in ended.err
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) == 1
    assert list(read_only.iterdir()) == []


@pytest.mark.slow
def test_run_folder_that_turns_read_only(document: dict[str, Any], tmp_path: Path) -> None:
    """The folder for checkpoints is taken away in the midst of the run."""
    job = changed(document, train={"max_steps": 400}, checkpoint={"every": "20 steps", "keep": 2})
    process = start_command(job, tmp_path)
    assert wait_until(lambda: steps_taken(job, tmp_path) >= 45, process)
    checkpoints = latest(job, tmp_path).path / "checkpoints"
    moved = checkpoints.rename(checkpoints.with_name("moved"))
    checkpoints.write_text("a file where the folder was")
    try:
        ended = finish(process)
    finally:
        kill_all(process)
    assert ended.code == 4, ended.out
    assert "checkpoints cannot be written" in ended.err
    assert "Traceback" not in ended.err
    assert latest(job, tmp_path).state == "failed"
    checkpoints.unlink()
    moved.rename(checkpoints)
    assert train_by_command(job, tmp_path).state == "finished"
