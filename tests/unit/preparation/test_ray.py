"""A preparation with the target ray is refused with a message where Ray cannot run it."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from preparation.executors.ray_cluster import (
    RAY,
    _remove_folders_of_dead_processes,
    check_ray,
    ray_cluster,
)
from temper.cli import main
from training.errors import RunError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"text": "one two three"}\n')
    (tmp_path / "job.yaml").write_text("name: a\nprepare: {sources: a.jsonl}\n")
    return "job.yaml"


def test_without_ray_the_command_that_installs_it_is_named(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preparation.executors.ray_cluster.find_spec", lambda name: None)
    assert main(["prepare", job, "--target", "ray"]) == 4
    assert 'pip install "temper[prepare,ray]"' in capsys.readouterr().err
    assert not (tmp_path / "prepared").exists()


def test_options_of_other_targets_are_refused(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--target", "ray", "--nodes", "2", "--instance", "ml.c7i.xlarge"]
    assert main(["prepare", job, *options]) == 2
    message = capsys.readouterr().err
    assert "RAY_ADDRESS names the cluster" in message
    assert "ray has no instance types" in message


def test_an_address_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preparation.executors.ray_cluster.find_spec", lambda name: True)
    with pytest.raises(RunError, match=r"ray://10\.0\.0\.5:10001: Ray Client is not supported"):
        check_ray({"RAY_ADDRESS": "ray://10.0.0.5:10001"})
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(RunError, match=f"127.0.0.1:{port}: no Ray cluster answers"), ray_cluster(1):
        pass


def test_folders_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = (f"temper-ray-{ended.pid}-a", f"temper-ray-{os.getpid()}-b", "temper-rayon")
    for name in names:
        (tmp_path / name / "session").mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _remove_folders_of_dead_processes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_the_version_of_the_extra_is_the_one_that_is_tested() -> None:
    assert f'ray = ["{RAY}"]' in (ROOT / "pyproject.toml").read_text()
    assert f"\n{RAY}\n" in (ROOT / "constraints.txt").read_text()
