"""Small trials: what is trained, and how the results are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from advice.advise import advise
from advice.dataset_profile import DatasetProfile, profile_dataset, prompt_and_answer
from advice.question import Asked, Requirements, read_question
from advice.row_scorer import RowScore
from advice.trials import run as trials_run
from advice.trials.comparison import TrialResult, compare_with_base, compare_with_best
from advice.trials.run import run_trials
from advice.trials.subset import FEWEST_ROWS, write_subset
from advice.trials.training import RATE_FACTORS, TrialTraining, trial_trainings
from tests.factories import docstring_pairs, write_jsonl
from training.config.data import Source
from training.errors import JobError

DOCUMENT = {
    "name": "job",
    "model": {"source": "base"},
    "data": {"train": "all.jsonl", "max_length": 128, "validation": {"split": "5%"}},
    "method": {"kind": "sft"},
    "adapter": {"kind": "lora"},
    "train": {"learning_rate": 1e-3, "num_train_epochs": 3, "global_batch_size": 32},
    "resources": {"instance": "ml.g5.xlarge"},
}


def profile(path: Path) -> DatasetProfile:
    return profile_dataset(Source(source=str(path)))


def scores(losses: np.ndarray) -> list[RowScore]:
    return [RowScore(float(loss) * 10, 10) for loss in losses]


def test_the_difference_is_paired() -> None:
    """Rows differ much more from each other than the models do."""
    rows = np.random.default_rng(0).normal(4.0, 1.5, 60)
    base, better = scores(rows), scores(rows - 0.1 + np.random.default_rng(1).normal(0, 0.02, 60))
    result = compare_with_base("LoRA", better, base)
    assert result.difference is not None and result.interval is not None
    mean, (low, high) = result.difference
    assert low < mean < high < 0 and high - low < 0.03
    assert result.interval[1] - result.interval[0] > 0.5
    worst = compare_with_base("base", base, base)
    nothing = TrialResult("few-shot", note="no example fits")
    compared = compare_with_best([(worst, base), (result, better), (nothing, [])])
    assert compared[1].to_best is not None and compared[1].to_best[0] == 0
    assert compared[0].to_best is not None and compared[0].to_best[1][0] > 0
    assert compared[2].to_best is None


def test_rows_that_are_trained_on_are_not_compared(tmp_path: Path, pairs: Path) -> None:
    rows = write_subset(profile(pairs), tmp_path, "job.yaml")
    trained = {prompt_and_answer(row) for row in profile(rows.train).sample}
    held_out = {prompt_and_answer(row) for row in (*rows.choosing, *rows.comparing)}
    assert len(trained) == 72 and len(held_out) == 24
    assert not trained & held_out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "compares losses of texts or answers"),
        ({"prompt": "a", "completion": "b"}, f"needs {FEWEST_ROWS} rows"),
    ],
)
def test_rows_that_cannot_be_compared(row: dict[str, str], message: str, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", [row] * 10)
    with pytest.raises(JobError, match=message):
        write_subset(profile(data), tmp_path, "job.yaml")


def test_all_approaches_have_the_same_budget(tmp_path: Path) -> None:
    trainings = trial_trainings("lora", DOCUMENT, tmp_path / "train.jsonl", tmp_path, 30)
    assert len(trainings) == len(RATE_FACTORS)
    assert len({training.folder for training in trainings}) == len(trainings)
    for training, factor in zip(trainings, RATE_FACTORS, strict=True):
        assert training.document["train"] == {
            "learning_rate": 1e-3 * factor,
            "max_steps": 30,
            "global_batch_size": 8,
        }
        assert "resources" not in training.document
        assert "validation" not in training.document["data"]


@pytest.mark.slow
def test_trials_by_the_command_that_users_type(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two approaches are really trained, once: a second start trains nothing."""
    data = write_jsonl(tmp_path / "rows.jsonl", docstring_pairs(80))
    question = read_question(Asked(None, "", str(tiny_model), str(data), Requirements()))
    advice = advise(question, 5)
    every = trials_run._trainings

    def two(*arguments: Any) -> list[TrialTraining]:
        trainings = every(*arguments)
        return [t for t in trainings if t.approach in ("prompt_tuning", "full")][1::2]

    monkeypatch.setattr(trials_run, "_trainings", two)
    said: list[str] = []
    results = run_trials(advice, tmp_path / "trials", 8, said.append)
    names = [result.name for result in results]
    assert names[0] == "the base model" and names[2:] == ["prompt tuning", "full fine-tuning"]
    prompt_tuning, full = results[2:]
    assert full.difference is not None and full.difference[1][1] < 0, "training lowers the loss"
    assert prompt_tuning.loss is not None and prompt_tuning.loss != results[0].loss
    assert full.seconds > 0
    # The loss is that of the run itself: same rows, same rendering.
    job = yaml.safe_load((tmp_path / "trials/runs").glob("full-*.yaml").__next__().read_text())
    assert job["train"]["max_steps"] == 8
    written = json.loads((tmp_path / "trials/results.json").read_text())
    assert [row["loss"] for row in written] == [result.loss for result in results]
    again = run_trials(advice, tmp_path / "trials", 8, said.append)
    assert [row.loss for row in again] == [row.loss for row in results]
    assert again[-1].seconds == 0
