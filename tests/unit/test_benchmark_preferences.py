"""Rows of the preference benchmark: real ones, each prompt on one side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.preferences import rows
from benchmarks.preferences.independent_eval import by_prompt, interval


@pytest.mark.skipif(not rows.HARMLESS.exists(), reason="the project's shared data is not here")
def test_a_prompt_is_on_one_side_with_all_its_answers(tmp_path: Path) -> None:
    rows.write_rows(tmp_path)
    for name, least in (("pairs", 400), ("labels", 400)):
        prompts = {
            side: {json.loads(line)["prompt"] for line in _lines(tmp_path, name, side)}
            for side in rows.SIDES
        }
        assert not prompts["train"] & prompts["held"]
        assert not prompts["choosing"] & (prompts["train"] | prompts["held"])
        assert len(_lines(tmp_path, name, "held")) >= least


def _lines(folder: Path, name: str, side: str) -> list[str]:
    return (folder / f"{name}-{side}.jsonl").read_text().splitlines()


def test_an_interval_is_that_of_the_mean_and_counts_a_prompt_once() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    twice = np.repeat(values, 2)
    groups = [np.array([2 * n, 2 * n + 1]) for n in range(400)]
    low, high = interval(groups, lambda drawn: float(twice[drawn].mean()))
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.03)


def test_rows_go_together_by_their_prompt() -> None:
    def row(prompt: list[int], answer: list[int]) -> dict[str, object]:
        ids = prompt + answer
        labels = [-100] * len(prompt) + answer
        return {"input_ids": ids, "labels": labels, "seq_lengths": [len(ids)]}

    found = by_prompt([row([1, 2], [5]), row([1, 3], [5]), row([1, 2], [6, 7])])
    assert [group.tolist() for group in found] == [[0, 2], [1]]
