"""Container command of a job that trains in an image on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from launch import local_container
from launch.errors import LaunchError
from launch.submit import with_image
from training.config.load import parse_job


def test_inputs_are_mounted_at_their_own_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_container, "container_engine", lambda: "podman")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    rows = tmp_path / "elsewhere/rows.jsonl"
    rows.write_text('{"text": "a"}\n')
    document: dict[str, Any] = {
        "name": "a",
        "model": {"source": "owner/model"},
        "data": {"train": str(rows)},
        "method": {"kind": "sft"},
        "train": {"max_steps": 1},
    }
    job, folder = parse_job(document, "test"), tmp_path / "runs/a/1"
    command = local_container.container_command(
        "ours:1", job, folder, "train.max_steps=2 data.limit=3"
    )
    assert command[:2] == ["podman", "run"]
    assert f"--volume={folder}:{folder}" in command
    assert f"--volume={rows}:{rows}:ro" in command
    assert f"--workdir={tmp_path}" in command
    assert "--env=PYTHONSAFEPATH=1" in command, "the code of the image trains"
    begun = command.index("ours:1")
    assert command[begun + 1 :] == [
        *("train", str(folder / "job.yaml"), f"--folder={folder}"),
        *("--set", "train.max_steps=2", "data.limit=3"),
    ]


def test_no_container_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match="needs docker or podman"):
        local_container.container_engine()


def test_image_is_set_on_first_stage(tmp_path: Path) -> None:
    run = {"method": {"kind": "sft"}, "data": {"train": "builtin:python-stdlib"}}
    one = {"name": "a", "model": {"source": "o/m"}, **run, "train": {"max_steps": 1}}
    stages = [{"train": {"max_steps": 1}, "model": {"source": "o/m"}, "name": "x", **run}]
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(one))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({"name": "b", "stages": stages}))
    assert with_image(tmp_path / "one.yaml", "", "i:1") == "resources.image=i:1"
    assert with_image(tmp_path / "two.yaml", "", "i:1") == "stages.0.resources.image=i:1"
    assert with_image(tmp_path / "one.yaml", "name=c", "") == "name=c"
