"""Commands that resume a run, commands that start another, and the messages of both."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import (
    Ended,
    changed,
    finish,
    latest,
    start_command,
    steps_taken,
    wait_until,
)
from training.config.load import parse_job
from training.errors import RunError
from training.resume import find_or_create
from training.run_folder import RunFolder, differences, resolved_yaml


@pytest.fixture
def unfinished(document: dict[str, Any], tmp_path: Path) -> RunFolder:
    """A run that stopped on its way."""
    folder = RunFolder.create(tmp_path / "tiny/20260101-000000", parse_job(document, "test"))
    (tmp_path / "tiny/latest").symlink_to(folder.path.name)
    folder.set_state("stopped")
    return folder


def chosen(document: dict[str, Any], runs: Path, *, fresh: bool = False) -> Path:
    return find_or_create(parse_job(document, "test"), runs / "tiny", fresh).path


@pytest.mark.parametrize("state", ["running", "stopped", "failed"])
def test_unfinished_run_resumes(
    document: dict[str, Any], unfinished: RunFolder, tmp_path: Path, state: Any
) -> None:
    unfinished.set_state(state)
    assert chosen(document, tmp_path) == unfinished.path


def test_finished_run_does_not(
    document: dict[str, Any], unfinished: RunFolder, tmp_path: Path
) -> None:
    unfinished.set_state("finished")
    assert chosen(document, tmp_path) != unfinished.path


def test_fresh_starts_over(document: dict[str, Any], unfinished: RunFolder, tmp_path: Path) -> None:
    first, second = (chosen(document, tmp_path, fresh=True) for _ in range(2))
    assert len({first, second, unfinished.path}) == 3
    assert unfinished.state == "stopped"


OTHER_PLACE: list[dict[str, Any]] = [
    {"resources": {"processes": 2}, "train": {"micro_batch_size": 4}},
    {"sharding": {"zero": 3}},
    {"checkpoint": {"every": "5 steps"}},
    {"guards": {"update_check_after": "50 steps"}},
    {"train": {"micro_batch_size": 2}},
    {"data": {"workers": 2}},
]


@pytest.mark.parametrize("sections", OTHER_PLACE, ids=str)
def test_where_and_how_fast_may_change(
    document: dict[str, Any], unfinished: RunFolder, tmp_path: Path, sections: dict[str, Any]
) -> None:
    assert chosen(changed(document, **sections), tmp_path) == unfinished.path


OTHER_RUN: list[tuple[dict[str, Any], str]] = [
    ({"train": {"learning_rate": 2e-3}}, "train.learning_rate"),
    ({"train": {"seed": 1}}, "train.seed"),
    ({"train": {"max_steps": 20}}, "train.max_steps"),
    ({"train": {"global_batch_size": 16}}, "train.global_batch_size"),
    ({"data": {"limit": 5}}, "data.limit"),
    ({"precision": "bf16"}, "precision"),
    ({"adapter": {"kind": "lora"}}, "adapter"),
    ({"method": {"loss_on": "all"}}, "method.loss_on"),
]


@pytest.mark.parametrize(("sections", "key"), OTHER_RUN, ids=[key for _, key in OTHER_RUN])
def test_what_changes_the_weights_begins_another_run(
    document: dict[str, Any],
    unfinished: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sections: dict[str, Any],
    key: str,
) -> None:
    assert chosen(changed(document, **sections), tmp_path) != unfinished.path
    said = capsys.readouterr().out
    assert unfinished.path.name in said
    assert f"differs in {key}" in said
    assert "new run" in said


def test_a_resolved_job_is_the_same_job(document: dict[str, Any], unfinished: RunFolder) -> None:
    job = parse_job(document, "test")
    assert differences(job, unfinished.job) == []
    assert resolved_yaml(unfinished.job) == resolved_yaml(job)


def test_a_folder_that_is_not_a_run(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tiny/latest").mkdir(parents=True)
    assert chosen(document, tmp_path).exists()


def test_a_runs_folder_that_is_a_file(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tiny").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        chosen(document, tmp_path)


def command(document: dict[str, Any], home: Path, *options: str) -> Ended:
    return finish(start_command(document, home, *options))


@pytest.mark.slow
def test_by_the_command(document: dict[str, Any], tmp_path: Path) -> None:
    long = changed(document, train={"max_steps": 5000})
    process = start_command(long, tmp_path)
    assert wait_until(lambda: steps_taken(long, tmp_path) >= 3, process)
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 75
    first = latest(long, tmp_path)
    reached = int(first.samples[-1]["step"])

    process = start_command(long, tmp_path)
    assert wait_until(lambda: steps_taken(long, tmp_path) > reached + 2, process)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.code == 75
    assert f"resuming {first.path.name} (--fresh starts over)" in ended.out
    assert [s["step"] for s in first.samples] == list(range(1, len(first.samples) + 1))

    other = command(long, tmp_path, "--set", "train.max_steps=4")
    assert other.code == 0, other.err
    assert f"{first.path.name} is unfinished but differs in train.max_steps: new run" in other.out
    assert latest(long, tmp_path).path != first.path
    assert first.state == "stopped"
