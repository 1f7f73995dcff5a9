"""A checkpoint that is torn, altered or unfinished is never gone on from; the last good one is."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import Run, assert_identical, changed, leftovers, train_here
from training.trainer.checkpoints import CHECKSUMS, find_corruption

EVERY, STEPS = 4, 12


@pytest.fixture
def job(document: dict[str, Any]) -> dict[str, Any]:
    return changed(
        document, train={"max_steps": STEPS}, checkpoint={"every": f"{EVERY} steps", "keep": 3}
    )


@pytest.fixture
def whole(job: dict[str, Any], tmp_path: Path) -> Run:
    """A run to its end, its three checkpoints kept."""
    return train_here(job, tmp_path / "whole")


@pytest.fixture
def cut(whole: Run, tmp_path: Path) -> Run:
    """Run folder after a kill at step 11: two checkpoints, no model."""
    path = tmp_path / "cut"
    shutil.copytree(whole.path, path)
    shutil.rmtree(path / "checkpoints" / f"checkpoint-{STEPS}")
    shutil.rmtree(path / "model")
    return Run(path)


def weights_of(checkpoint: Path) -> Path:
    return next(checkpoint.glob("model*.safetensors"))


def truncate(checkpoint: Path) -> None:
    path = weights_of(checkpoint)
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(checkpoint: Path) -> None:
    path = weights_of(checkpoint)
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


def flip_a_bit_of_the_optimizer(checkpoint: Path) -> None:
    path = checkpoint / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_a_file(checkpoint: Path) -> None:
    (checkpoint / "scheduler.pt").unlink()


def lose_the_sums(checkpoint: Path) -> None:
    (checkpoint / CHECKSUMS).unlink()


def tear_the_sums(checkpoint: Path) -> None:
    path = checkpoint / CHECKSUMS
    path.write_text(path.read_text()[:-40])


def empty_the_sums(checkpoint: Path) -> None:
    (checkpoint / CHECKSUMS).write_text('{"facts": {}}')


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (truncate, "altered or truncated"),
    (flip_a_bit, "altered or truncated"),
    (flip_a_bit_of_the_optimizer, "optimizer.pt was altered or truncated"),
    (lose_a_file, "scheduler.pt is missing"),
    (lose_the_sums, "never finished"),
    (tear_the_sums, "cannot be read"),
    (empty_the_sums, "cannot be read"),
]


def first_step_after(run: Run, caplog: pytest.LogCaptureFixture, job: dict[str, Any]) -> int:
    """Go on with a run, and return the first step that was taken again."""
    (run.path / "metrics.jsonl").write_text("")
    with caplog.at_level(logging.WARNING, logger="training"):
        again = train_here(job, run.path)
    return int(again.steps[0]["step"])


@pytest.mark.parametrize(
    ("damage", "words"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES]
)
def test_damaged_checkpoint_is_passed_over(
    job: dict[str, Any],
    whole: Run,
    cut: Run,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    words: str,
) -> None:
    damage(cut.path / "checkpoints/checkpoint-8")
    assert first_step_after(cut, caplog, job) == EVERY + 1
    said = [r.getMessage() for r in caplog.records if "checkpoint-8 is not used" in r.getMessage()]
    assert len(said) == 1
    assert words in said[0]
    assert_identical(cut, whole)
    assert cut.samples == whole.samples
    assert find_corruption(cut.path / "checkpoints/checkpoint-8") is None, "not written again"


def test_undamaged_run_resumes_from_the_newest_checkpoint(
    job: dict[str, Any], whole: Run, cut: Run, caplog: pytest.LogCaptureFixture
) -> None:
    assert first_step_after(cut, caplog, job) == 9
    assert "is not used" not in caplog.text
    assert_identical(cut, whole)


def test_a_run_whose_checkpoints_are_all_damaged_starts_over_with_a_warning(
    job: dict[str, Any], whole: Run, cut: Run, caplog: pytest.LogCaptureFixture
) -> None:
    truncate(cut.path / "checkpoints/checkpoint-8")
    flip_a_bit(cut.path / "checkpoints/checkpoint-4")
    assert first_step_after(cut, caplog, job) == 1
    assert "checkpoint-8 is not used" in caplog.text
    assert "checkpoint-4 is not used" in caplog.text
    assert "starts from scratch" in caplog.text
    assert_identical(cut, whole)
    assert cut.samples == whole.samples


def test_what_a_kill_in_writing_leaves_is_cleared_away(
    job: dict[str, Any], whole: Run, cut: Run, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = cut.path / "checkpoints"
    shutil.copytree(checkpoints / "checkpoint-8", checkpoints / ".writing-12/checkpoint-12")
    shutil.copytree(checkpoints / "checkpoint-4", checkpoints / ".deleting-checkpoint-2")
    shutil.copytree(checkpoints / "checkpoint-4", cut.path / ".writing-model")
    assert first_step_after(cut, caplog, job) == 9
    assert leftovers(cut) == []
    assert_identical(cut, whole)


def test_only_the_newest_are_kept(job: dict[str, Any], tmp_path: Path) -> None:
    run = train_here(changed(job, checkpoint={"every": "2 steps", "keep": 2}), tmp_path / "two")
    assert run.checkpoints == ["checkpoint-10", "checkpoint-12"]


def test_every_file_is_summed(whole: Run) -> None:
    checkpoint = whole.path / "checkpoints/checkpoint-8"
    sums = json.loads((checkpoint / CHECKSUMS).read_text())["sums"]
    files = {str(p.relative_to(checkpoint)) for p in checkpoint.rglob("*") if p.is_file()}
    assert files == {*sums, CHECKSUMS}
    assert {"optimizer.pt", "scheduler.pt", "trainer_state.json"} <= sums.keys()
    assert any(name.startswith("rng_state") for name in sums)


def test_a_finished_checkpoint_alone_still_writes_the_model(
    job: dict[str, Any], whole: Run, tmp_path: Path
) -> None:
    """Killed while the model was being saved: nothing is trained again, the model is there."""
    path = tmp_path / "late"
    shutil.copytree(whole.path, path)
    (path / "model").rename(path / ".writing-model")
    late = train_here(job, path)
    assert_identical(late, whole)
    assert late.samples == whole.samples
    assert leftovers(late) == []
