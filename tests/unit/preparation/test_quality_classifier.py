"""The classifier of good and bad rows: trained once, measured on what it has not learned from."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import precision_score, recall_score

from preparation.command import prepare
from preparation.config.load import load_preparation
from preparation.estimate import estimate
from preparation.plan import plan
from preparation.relocation import local_files, relocated
from preparation.steps.quality_classifier.accuracy import accuracy, auc_interval
from preparation.steps.quality_classifier.examples import Example, folds, key_of
from preparation.steps.quality_classifier.section import QualityClassifierStep
from preparation.steps.quality_classifier.training import train
from training.errors import DataError, JobError

_GOOD = ["pump", "pressure", "valve", "was", "opened", "slowly", "we", "measured", "flow", "water"]
_BAD = ["click", "here", "free", "!!!", "win", "$$$", "best", "offer", "cheap", "buy", "subscribe"]


def _texts(words: Sequence[str], count: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    shared = [f"word{n}" for n in range(300)]
    return [
        " ".join(generator.choices([*words, *generator.sample(shared, 12)], k=40))
        for _ in range(count)
    ]


def _write(path: Path, texts: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    good, bad = _texts(_GOOD, 80, 1), _texts(_BAD, 70, 2)
    _write(tmp_path / "good.jsonl", good)
    _write(tmp_path / "bad.jsonl", bad)
    rows = [*_texts(_GOOD, 40, 3), *_texts(_BAD, 40, 4), good[0], bad[0]]
    _write(tmp_path / "rows.jsonl", rows)
    return tmp_path


def _job(folder: Path, **keys: Any) -> Path:
    step = {"step": "quality_classifier", "good": "good.jsonl", "bad": "bad.jsonl", **keys}
    document = {"name": "q", "prepare": {"sources": "rows.jsonl", "steps": [step], "workers": 1}}
    path = folder / "job.yaml"
    path.write_text(json.dumps(document))
    return path


def _rows(folder: Path) -> list[dict[str, Any]]:
    (shard,) = (folder / "prepared/q/latest/train").glob("*.parquet")
    rows = pq.read_table(shard).to_pylist()
    return [row | {"tags": json.loads(row["row_tags"])} for row in rows]


def _step(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "prepared/q/latest/report.json").read_text())
    step: dict[str, Any] = report["steps"][1]
    return step


def test_rows_are_scored_and_none_is_dropped_by_default(folder: Path) -> None:
    prepare(_job(folder))
    rows = _rows(folder)
    scores = [row["tags"]["quality_score"] for row in rows]
    assert len(rows) == 82
    assert min(scores[:40]) > 0.5 > max(scores[40:80])
    assert [row["tags"].get("quality_example") for row in rows[79:]] == [None, "good", "bad"]
    step = _step(folder)
    assert step["would_reject"] == {"low_quality": 41}
    assert len(step["examples"]["low_quality"]) == 3
    facts, thresholds = (table["rows"] for table in step["facts"])
    assert facts[:2] == [["good examples", 80], ["bad examples", 70]]
    assert facts[3] == ["rows that are examples, left out below", 2]
    assert thresholds[4][0] == "0.5" and thresholds[4][4] == "40 (50.0 %)"
    page = (folder / "prepared/q/latest/report.html").read_text()
    assert "what each threshold does" in page and "AUC (95 % interval)" in page


def test_rows_below_a_threshold_are_dropped_but_never_a_good_example(folder: Path) -> None:
    # One good example reads like the bad ones: the model that has not seen it rejects it.
    odd = _texts(_BAD, 1, 9)[0]
    with (folder / "good.jsonl").open("a") as stream:
        stream.write(json.dumps({"text": odd}) + "\n")
    with (folder / "rows.jsonl").open("a") as stream:
        stream.write(json.dumps({"text": odd}) + "\n")
    prepare(_job(folder, drop_below=0.4))
    rows = _rows(folder)
    assert len(rows) == 42
    assert rows[-1]["text"] == odd
    assert rows[-1]["tags"]["quality_score"] < 0.4, "judged by a model that has not learned it"
    rejected = (folder / "prepared/q/latest/rejected.jsonl").read_text().splitlines()
    assert len(rejected) == 41
    assert json.loads(rejected[0])["reason"] == "low_quality"


def test_the_result_is_the_same_again_and_its_name_depends_on_the_examples(folder: Path) -> None:
    job = _job(folder)
    result = folder / "prepared/q" / plan(load_preparation(job)).digest
    runs = []
    for _ in range(2):
        prepare(job, fresh=True)
        files = [path for path in sorted(result.rglob("*")) if path.is_file()]
        runs.append({path: path.read_bytes() for path in files})
    assert runs[0] == runs[1] != {}
    _write(folder / "good.jsonl", _texts(_GOOD, 81, 1))
    assert plan(load_preparation(job)).digest != result.name


def test_examples_that_cannot_be_used_are_told_at_once(folder: Path) -> None:
    few = _texts(_GOOD, 30, 1)
    _write(folder / "good.jsonl", few)
    _write(folder / "bad.jsonl", [*_texts(_BAD, 60, 2), few[0].replace(" ", "\n"), few[1]])
    with pytest.raises(DataError) as error:
        prepare(_job(folder))
    message = str(error.value)
    assert "good: 30 different examples with text; at least 50 are needed" in message
    assert "2 examples are both good and bad" in message
    assert "good.jsonl:1 = bad.jsonl:61" in message
    assert not (folder / "prepared/q/latest").exists()


def test_files_that_cannot_be_used_are_problems_of_the_job(folder: Path) -> None:
    (folder / "notes.pdf").write_bytes(b"%PDF")
    with pytest.raises(JobError) as error:
        load_preparation(_job(folder, good=["missing.jsonl", "notes.pdf", "bad.jsonl"]))
    message = str(error.value)
    assert "prepare.steps.0.good.0: the file does not exist (got missing.jsonl)" in message
    assert "prepare.steps.0.good.1: not a format of rows" in message
    assert "prepare.steps.0.bad: the file is also in good (got bad.jsonl)" in message


def test_answers_alone_can_be_compared(folder: Path) -> None:
    for name, words in (("good", _GOOD), ("bad", _BAD)):
        rows = [
            {"prompt": f"{text} {n}", "completion": answer}
            for n, (text, answer) in enumerate(
                zip(_texts(_GOOD, 60, 5), _texts(words, 60, 6), strict=True)
            )
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"good": (str(folder / "good.jsonl"),), "bad": (str(folder / "bad.jsonl"),)}
    model = train(QualityClassifierStep(step="quality_classifier", texts="answers", **files))
    assert model.facts["auc"][0] > 0.99


def test_answers_to_one_prompt_and_near_copies_share_a_fold() -> None:
    words = [f"w{n}" for n in range(120)]
    texts = [" ".join(words[n : n + 60]) for n in range(0, 60, 6)]
    near = [f"{text} end" for text in texts]
    examples = [Example("a", text, key_of(text), "") for text in [*texts, *near]]
    examples += [Example("a", f"{n} {n + 9} {n * 7}", str(n), f"prompt{n % 6}") for n in range(60)]
    result = folds(examples)
    assert result[:10] == result[10:20], "a copy with one more word"
    assert all(len({result[20 + k] for k in range(n, 60, 6)}) == 1 for n in range(6))
    assert max(result.count(fold) for fold in range(5)) < 40


def ordered_pairs(good: Any, bad: Any) -> float:
    """Return the share of pairs whose good example has the higher score; ties count half."""
    return float(((good[:, None] > bad) + 0.5 * (good[:, None] == bad)).mean())


def test_measures_are_those_of_their_definitions() -> None:
    generator = np.random.default_rng(4)
    is_good = generator.random(400) < 0.6
    scores = np.round(np.clip(generator.normal(0.4 + 0.2 * is_good, 0.2), 0, 1), 2)
    measured = accuracy(scores, is_good)
    assert measured["auc"][0] == pytest.approx(ordered_pairs(scores[is_good], scores[~is_good]))
    for line in measured["thresholds"]:
        kept = scores >= line["drop_below"]
        assert line["good_kept"][0] == pytest.approx(recall_score(is_good, kept))
        removed = recall_score(~is_good, ~kept)
        assert line["bad_removed"][0] == pytest.approx(removed)
        if line["precision"] is not None:
            assert line["precision"][0] == pytest.approx(precision_score(is_good, kept))


def test_the_interval_of_an_auc_covers_it() -> None:
    generator = np.random.default_rng(1)
    # For normal scores one standard deviation apart the AUC is the normal CDF of 1 / sqrt(2).
    hits = 0
    for _ in range(400):
        good, bad = generator.normal(1, 1, 40), generator.normal(0, 1, 60)
        low, high = auc_interval(ordered_pairs(good, bad), 40, 60)
        hits += low <= 0.7602 <= high
    assert 0.92 <= hits / 400 <= 0.98
    assert auc_interval(1.0, 50, 50)[0] < 0.99


def test_its_files_are_copied_to_another_machine_and_its_costs_estimated(folder: Path) -> None:
    job = load_preparation(_job(folder, drop_below=0.2))
    files, digest = local_files(job), plan(job).digest
    assert {"good.jsonl", "bad.jsonl", "rows.jsonl"} == set(files)
    (folder / "there").mkdir()
    names = {value: str((folder / value).rename(folder / "there" / value)) for value in files}
    there = folder / "there.yaml"
    there.write_text(relocated(job, names, "elsewhere"))
    moved = load_preparation(there)
    assert moved.prepare.output == "elsewhere"
    assert plan(moved).digest == digest
    assert estimate(plan(moved)).rows == pytest.approx(82, abs=10)
