"""A tokenizer that a job trains has seen the training rows and no held-out row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from training.config.job import Job
from training.config.load import parse_job
from training.data.prepare import iter_texts, prepare

_SCRATCH = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 300,
}


def test_conversations_with_one_first_question_stay_together(
    tmp_path: Path, llama: PreTrainedTokenizerFast
) -> None:
    """Their later turns differ: the first answer is learned after the same question."""

    def turn(role: str, content: str) -> dict[str, str]:
        return {"role": role, "content": content}

    rows = [
        {
            "messages": [
                turn("user", f"question {i // 4}"),
                turn("assistant", f"first answer {i}"),
                turn("user", f"and {i}"),
                turn("assistant", f"second answer {i}"),
            ]
        }
        for i in range(40)
    ]
    path = _write(tmp_path / "a.jsonl", rows)
    job = _job(path, "sft", model={"chat_template": "chatml"}, max_length=256)
    prepared = prepare(job, llama, cache_dir=tmp_path / "cache", run_dir=tmp_path / "run")
    assert prepared.validation is not None
    trained, held = _rows(prepared.train), _rows(prepared.validation)
    assert trained and held
    assert not {i // 4 for i in trained} & {i // 4 for i in held}
    seen = "\n".join(iter_texts(job))
    assert all(f"second answer {i}\n" not in f"{seen}\n" for i in held)


def _job(path: Path, kind: str, model: dict[str, Any] | None = None, **data: Any) -> Job:
    document = {
        "name": "scratch",
        "model": {"source": "scratch", "scratch": _SCRATCH, **(model or {})},
        "data": {"train": str(path), "validation": {"split": "20%"}, "workers": 1, **data},
        "method": {"kind": kind},
    }
    job = parse_job(document, "job.yaml")
    assert isinstance(job, Job)
    return job


def _rows(table: Any) -> set[int]:
    """Return the numbers of the rows of a table, from 0."""
    ids = {id_ for i in range(len(table)) for id_ in table[i]["ids"]}
    return {int(id_.split(":")[1].split("#")[0]) - 1 for id_ in ids}


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("data", [{}, {"limit": 30}, {"on_error": "skip", "packing": True}])
def test_held_out_texts_are_not_seen(
    tmp_path: Path, llama: PreTrainedTokenizerFast, data: dict[str, Any]
) -> None:
    path = _write(tmp_path / "a.jsonl", [{"text": f"text number {i} " * 20} for i in range(40)])
    if data.get("on_error"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines[:7], "no json\n", *lines[7:]]))
    job = _job(path, "pretrain", max_length=32, **data)
    prepared = prepare(job, llama, cache_dir=tmp_path / "cache", run_dir=tmp_path / "run")
    lines = path.read_text().splitlines()
    seen = list(iter_texts(job))
    assert prepared.validation is not None
    trained, held = _rows(prepared.train), _rows(prepared.validation)
    assert trained and held and not trained & held
    assert seen == [json.loads(lines[i])["text"] for i in sorted(trained)]


def test_answers_to_one_prompt_stay_together(
    tmp_path: Path, llama: PreTrainedTokenizerFast
) -> None:
    """Rows too long to keep change nothing: they are on one side for the tokenizer, too."""
    rows = [
        {"prompt": f"question {i // 4} ", "completion": f"answer {i} " * (200 if i == 9 else 3)}
        for i in range(60)
    ]
    path = _write(tmp_path / "a.jsonl", rows)
    job = _job(path, "sft", max_length=96)
    prepared = prepare(job, llama, cache_dir=tmp_path / "cache", run_dir=tmp_path / "run")
    assert prepared.validation is not None
    trained, held = _rows(prepared.train), _rows(prepared.validation)
    assert not {i // 4 for i in trained} & {i // 4 for i in held}
    seen = "\n".join(iter_texts(job))
    assert all(rows[i]["completion"] not in seen for i in held)
    assert all(rows[i]["completion"] in seen for i in trained)
