"""KTO's divergence is never estimated from a row's own answer."""

from __future__ import annotations

import pytest

from training.config.load import parse_job
from training.errors import DataError, JobError
from training.methods.kto import _mismatched


@pytest.mark.parametrize("rows", [[4], [0, 1], [3, 1, 2], list(range(7))])
def test_no_row_is_combined_with_itself(rows: list[int]) -> None:
    pairs = _mismatched(rows, 8)
    assert [prompt for prompt, _ in pairs] == rows
    assert all(prompt != answer for prompt, answer in pairs)


def test_the_last_row_of_an_epoch_takes_its_neighbor() -> None:
    assert _mismatched([7], 8) == [(7, 0)]
    assert _mismatched([], 8) == []


def test_a_single_row_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2 rows"):
        _mismatched([0], 1)


@pytest.mark.parametrize(("kind", "refused"), [("kto", True), ("dpo", False)])
def test_a_step_of_one_row(kind: str, refused: bool) -> None:
    document = {
        "name": "one",
        "model": {"source": "some/model"},
        "data": {"train": "rows.jsonl"},
        "method": {"kind": kind},
        "train": {"global_batch_size": 1},
    }
    if not refused:
        parse_job(document, "job.yaml")
        return
    with pytest.raises(JobError, match=r"global_batch_size: kto compares the rows of a step"):
        parse_job(document, "job.yaml")
