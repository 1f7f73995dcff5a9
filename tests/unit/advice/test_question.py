"""Questions that cannot be answered: one message with every problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from advice.advise import advise
from advice.question import Asked, Question, Requirements, read_question
from advice.quotes import Lengths, quote_all
from tests.factories import docstring_pairs, write_jsonl
from training.errors import JobError

# About 8 billion parameters in few layers, of which a plan simulates each.
WIDE_LLAMA = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 7,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def wide_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide-llama")
    (folder / "config.json").write_text(json.dumps(WIDE_LLAMA))
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("rows") / "rows.jsonl", docstring_pairs(300))


def ask(model: Path | str, data: Path | str, job: Path | None = None, **needs: Any) -> Question:
    return read_question(Asked(job, "", str(model), str(data), Requirements(**needs)))


def problems(model: Path | str, data: Path | str, job: Path | None = None, **needs: Any) -> str:
    with pytest.raises(JobError) as raised:
        advise(ask(model, data, job, **needs), 0)
    return str(raised.value)


def test_every_problem_at_once(tmp_path: Path) -> None:
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    message = problems(tmp_path / "nowhere", empty, instance="ml.g5.enormous")
    assert "3 problems" in message
    assert "there is no such folder" in message
    assert "the file is empty" in message
    assert "ml.g5.enormous" in message and "ml.g5.xlarge" in message


def test_neither_model_nor_data() -> None:
    message = problems("", "")
    assert "--model: there is no model" in message and "--data: there is no data" in message


def test_preferences_with_a_question_about_supervised_fine_tuning(
    tmp_path: Path, wide_llama: Path
) -> None:
    row = {"prompt": "What is a river?", "chosen": "A stream.", "rejected": "A cat."}
    data = write_jsonl(tmp_path / "pairs.jsonl", [row] * 5)
    job = tmp_path / "job.yaml"
    document = {
        "name": "job",
        "model": {"source": str(wide_llama)},
        "data": {"train": str(data)},
        "method": {"kind": "sft"},
        "train": {"max_steps": 1},
    }
    job.write_text(yaml.safe_dump(document))
    assert "this is a set of preferences" in problems("", "", job)


def test_a_model_too_large_for_every_instance(tmp_path: Path, rows: Path) -> None:
    large = WIDE_LLAMA | {"hidden_size": 131072, "intermediate_size": 524288}
    (tmp_path / "config.json").write_text(json.dumps(large))
    message = problems(tmp_path, rows)
    assert "1 problem\n" in message
    assert "no instance of the catalogue trains this model" in message
    assert "Name a smaller model" in message


def test_a_job_of_several_stages(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("name: a\nstages: []\n")
    assert "advice is for one run" in problems("", "", job)


def test_advice_without_weights(wide_llama: Path, rows: Path) -> None:
    advice = advise(ask(wide_llama, rows), 20)
    assert "has no weights on this machine" in advice.probe.skipped
    assert advice.decision.advised is not None
    quote = advice.quotes["lora"]
    assert 0 < quote.usd.low < quote.usd.high and quote.machine.startswith("1 × ml.g")
    assert advice.quotes["full"].usd.low > quote.usd.low
    few_shot, rag = advice.quotes["few_shot"], advice.quotes["rag"]
    assert few_shot.added_tokens > 0
    assert advice.facts.adapter_load is not None and 0 < advice.facts.adapter_load < 0.1
    # Examples are the same in every prompt, so that a token of theirs costs less than a passage's.
    bare = advice.quotes["prompting"].usd_per_1000
    assert few_shot.usd_per_1000 and rag.usd_per_1000 and bare
    of_example = (few_shot.usd_per_1000.low - bare.low) / few_shot.added_tokens
    assert of_example < (rag.usd_per_1000.low - bare.low) / rag.added_tokens


def test_limits_exclude_approaches(wide_llama: Path, rows: Path) -> None:
    lengths = Lengths(300, 200, 100, 3)
    hasty = quote_all(ask(wide_llama, rows, max_ttft_s=0.001), lengths, None)
    assert "no instance begins to answer within 1 ms" in hasty["rag"].excluded
    question = ask(wide_llama, rows, instance="ml.g5.xlarge", budget_usd=0.01)
    quotes = quote_all(question, lengths, None)
    assert "GiB on each device" in quotes["full"].excluded
    assert "the budget is 0.01" in quotes["qlora"].excluded
    assert not quotes["prompting"].excluded


def test_columns_of_the_data_can_be_named(tmp_path: Path, wide_llama: Path) -> None:
    """A text with a label is read as plain text, and the advice says so."""
    rows = [{"text": f"my card {number} is lost", "category": "lost"} for number in range(200)]
    data = write_jsonl(tmp_path / "labels.jsonl", rows)
    advice = advise(ask(wide_llama, data), 0)
    assert advice.facts.form == "text" and "not read: category" in advice.notes[0]
    columns = "data.train.columns.prompt=text data.train.columns.completion=category"
    asked = Asked(None, columns, str(wide_llama), str(data), Requirements())
    advice = advise(read_question(asked), 0)
    assert advice.facts.form == "answers" and not advice.notes
    assert advice.facts.distinct_answers == 1 / 200
    assert advice.quotes["lora"].job["data"]["train"]["source"] == str(data)


def test_a_limit_that_a_part_of_the_rows_meets(wide_llama: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"Order {number}?", "completion": "late"} for number in range(200_000)]
    data = write_jsonl(tmp_path / "many.jsonl", rows)
    lengths = Lengths(8, 6, 2, 5)
    all_rows = quote_all(ask(wide_llama, data, instance="ml.g5.2xlarge"), lengths, None)["qlora"]
    budget = all_rows.usd.low / 4
    question = ask(wide_llama, data, instance="ml.g5.2xlarge", budget_usd=budget)
    part = quote_all(question, lengths, None)["qlora"]
    limit = part.job["data"]["limit"]
    assert not part.excluded and 1000 <= limit < 50_000 and f"first {limit:,}" in part.notes[0]
    assert part.usd.low < budget


def test_texts_cannot_be_prompted(wide_llama: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "texts.jsonl", [{"text": "A river is a stream. " * 50}] * 20)
    advice = advise(ask(wide_llama, data, instance="ml.g6e.xlarge"), 0)
    excluded = {scored.approach for scored in advice.decision.approaches if scored.excluded}
    assert excluded == {"prompting", "few_shot", "prompt_tuning", "full"}
    assert advice.quotes["lora"].job["method"] == {"kind": "pretrain"}
