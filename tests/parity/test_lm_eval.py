"""Log-likelihoods and metrics are those of lm-eval 0.4.13 on the same files.

`lm_eval/golden.json` was written by `lm_eval/run_lm_eval.py` on the model that `lm_eval/model.py`
makes.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evaluation.command import EvaluateOptions, run_evaluation
from evaluation.results import EvaluationResult, read_results
from tests.parity.lm_eval.environment import lm_eval_environment
from tests.parity.lm_eval.model import make_parity_model
from training.models.safetensors_io import source_digest

HERE = Path(__file__).parent / "lm_eval"
_NAMES = {"acc": "accuracy", "acc_norm": "accuracy_norm"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_parity_model(tmp_path_factory.mktemp("parity") / "model")


@pytest.fixture(scope="module")
def golden(model: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((HERE / "golden.json").read_text("utf-8"))
    assert document["lm_eval"] == "0.4.13"
    assert document["model"] == source_digest(str(model), None), (
        "the model is another than the one that golden.json was written for"
    )
    return document


@pytest.fixture(scope="module")
def ours(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluationResult, Path]:
    out = tmp_path_factory.mktemp("ours")
    run_evaluation(EvaluateOptions(str(model), HERE / "suite.yaml", None, out, batch_size=5))
    return read_results(out), out


def items_of(folder: Path, task: str) -> list[dict[str, Any]]:
    lines = (folder / "items" / f"{task}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def compare_with_lm_eval(result: EvaluationResult, folder: Path, reference: dict[str, Any]) -> None:
    """Compare every metric, every log-likelihood and every answer."""
    compared = 0
    for name, task in reference["tasks"].items():
        metrics = result.tasks[name].metrics
        for metric, value in task["metrics"].items():
            if metric in ("bypass", "exact_match"):
                continue
            got = metrics[_NAMES.get(metric, metric)].value
            assert got == pytest.approx(value, rel=1e-6, abs=1e-6), f"{name}: {metric}"
            compared += 1
        for item, replies in zip(items_of(folder, name), task["replies"], strict=True):
            if "log_likelihoods" in item["detail"]:
                got_replies = [nats for _, nats in item["detail"]["log_likelihoods"]]
            elif "bits_per_byte" in item["scores"]:
                size = len(item["prompt"].encode("utf-8"))
                got_replies = [-item["scores"]["bits_per_byte"] * size * math.log(2)]
            else:
                assert list(item["answers"]) == replies
                compared += 1
                continue
            assert got_replies == pytest.approx(replies, rel=1e-6, abs=1e-5), f"{name}: {item}"
            compared += len(replies)
    assert compared >= 220


def test_metrics_and_log_likelihoods_equal_the_recorded_ones_of_lm_eval(
    ours: tuple[EvaluationResult, Path], golden: dict[str, Any]
) -> None:
    result, folder = ours
    compare_with_lm_eval(result, folder, golden)


def test_texts_of_the_comparison_are_longer_than_the_context(
    ours: tuple[EvaluationResult, Path],
) -> None:
    _, folder = ours
    tokens = [item["prompt_tokens"] for item in items_of(folder, "texts")]
    assert max(tokens) > 2 * 256 and min(tokens) < 256


@pytest.mark.slow
def test_metrics_and_log_likelihoods_equal_those_of_lm_eval_itself(
    model: Path, ours: tuple[EvaluationResult, Path], tmp_path: Path
) -> None:
    environment = lm_eval_environment(tmp_path)
    out = tmp_path / "reference.json"
    command = [sys.executable, "-m", "tests.parity.lm_eval.run_lm_eval", str(model), str(out)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result, folder = ours
    compare_with_lm_eval(result, folder, json.loads(out.read_text("utf-8")))
