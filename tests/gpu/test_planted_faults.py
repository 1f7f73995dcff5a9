"""A part fails when what it checks is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from benchmarks.gpu.case import CaseFailedError
from benchmarks.gpu.parts import packing, precision, resume
from benchmarks.gpu.scale import Scale
from training.data.collators.sequences import SequenceCollator


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    return Scale("cpu", tmp_path_factory.mktemp("gpu"))


def run(part: Any, scale: Scale, folder: Path, name: str) -> None:
    next(case for case in part.cases(scale) if case.name == name).run(folder)


def test_positions_that_do_not_restart(
    scale: Scale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collate = SequenceCollator.__call__

    def continue_counting(self: Any, rows: Any) -> Any:
        batch = collate(self, rows)
        batch["position_ids"] = torch.arange(batch["input_ids"].shape[1]).expand_as(
            batch["input_ids"]
        )
        return batch

    monkeypatch.setattr(SequenceCollator, "__call__", continue_counting)
    with pytest.raises(CaseFailedError, match="attends to another") as caught:
        run(packing, scale, tmp_path, "documents are isolated: sdpa, fp32")
    assert caught.value.measured["largest_change_of_other_documents"] > 0


def test_generators_that_are_not_restored(
    scale: Scale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_load_rng_state", lambda self, checkpoint: None)
    with pytest.raises(CaseFailedError, match=r"the losses differ by .* which is above 0\.0e\+00"):
        run(resume, scale, tmp_path, "LoRA with dropout, bf16")


@pytest.mark.slow
def test_optimizer_that_is_not_restored(
    scale: Scale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_load_optimizer_and_scheduler", lambda self, checkpoint: None)
    with pytest.raises(CaseFailedError, match="the losses differ"):
        run(resume, scale, tmp_path, "full, fp32")


@pytest.mark.slow
def test_loss_that_bf16_distorts(
    scale: Scale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Squared where autocast is on: only the run in bf16 sees another loss.
    original = torch.nn.functional.cross_entropy

    def distorted(*arguments: Any, **options: Any) -> torch.Tensor:
        loss = original(*arguments, **options)
        return loss * 1.05 if torch.is_autocast_enabled("cpu") else loss

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", distorted)
    with pytest.raises(
        CaseFailedError, match=r"the losses differ by 5\.\d+e-02, .* above 1\.6e-02"
    ):
        run(precision, scale, tmp_path, "full, bf16")
