"""Rows with the same prompt stay on one side of the held-out split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.data_factories import make_job, write_jsonl
from training.data.mixing.prompt_groups import group_by_prompt
from training.data.prepare import Prepared
from training.data.tokenization.corpus import iter_texts

Prepare = Callable[..., Prepared]
SPLIT = {"validation": {"split": "20%"}, "template": "chatml", "max_length": 256}


def pair(question: str, answer: str) -> dict[str, Any]:
    return {"prompt": question, "completion": answer}


def conversation(question: str, answer: str, system: str = "") -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [{"role": "system", "content": system}] * bool(system) + messages}


def questions(table: Any, tokenizer: PreTrainedTokenizerFast) -> set[str]:
    """The questions of a table, from its text."""
    texts = [tokenizer.decode(table[index]["input_ids"]) for index in range(len(table))]
    return {text.partition("question ")[2].partition(" ")[0] for text in texts}


@pytest.mark.parametrize("loss_on", ["assistant", "completion", "all"])
def test_a_prompt_stays_on_one_side_over_sources_and_shapes(
    prepared: Prepare, tmp_path: Path, qwen: PreTrainedTokenizerFast, loss_on: str
) -> None:
    paths = [
        write_jsonl(tmp_path / "a.jsonl", (pair(f"question {n} ?", f"a {n}") for n in range(40))),
        write_jsonl(
            tmp_path / "b.jsonl", (conversation(f"question {n} ?", f"b {n}") for n in range(40))
        ),
    ]
    train = [{"source": str(path)} for path in paths]
    run = prepared(train, qwen, loss_on=loss_on, **SPLIT)
    assert run.validation is not None
    sides = [questions(table, qwen) for table in (run.train, run.validation)]
    assert len(sides[1]) == 8 and not sides[0] & sides[1]
    # A tokenizer that is trained on the training rows sees the same rows.
    job = make_job(train, loss_on=loss_on, **SPLIT)
    seen = {text.partition("question ")[2].partition(" ")[0] for text in iter_texts(job)}
    assert seen == sides[0] and len(run.validation) == 16


def test_windows_of_one_text_stay_on_one_side_in_fine_tuning(
    prepared: Prepare, tmp_path: Path, qwen: PreTrainedTokenizerFast
) -> None:
    """Windows that begin with the same token have no prompt in common."""
    rows = [{"text": f"{n} " + "the cat sat " * 60} for n in range(20)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    run = prepared(path, qwen, max_length=64, overlap=16, validation={"split": "20%"})
    assert run.validation is not None
    sides = [
        {table[i]["ids"][0].partition("#")[0] for i in range(len(table))}
        for table in (run.train, run.validation)
    ]
    assert len(sides[1]) == 4 and not sides[0] & sides[1]


def grouped(*sources: list[int]) -> list[list[int]]:
    prompts = [np.array(digests, dtype=np.int64) for digests in sources]
    documents = [np.arange(len(digests)) for digests in sources]
    return [groups.tolist() for groups in group_by_prompt(prompts, documents)]


def test_groups_are_numbered_over_sources() -> None:
    assert grouped([7, 8, 7], [8, 0, 0], [], [9]) == [[0, 1, 0], [1, 4, 5], [], [6]]


def test_a_fixed_preamble_is_not_a_prompt() -> None:
    assert grouped([7, 7, 7, 8]) == [[0, 1, 2, 3]]
    # Every row of one source has it, although that is less than half of all rows.
    many = list(range(1, 401))
    assert grouped(many, [500] * 150)[1] == list(range(400, 550))
    # A source of few answers to one question is a group.
    assert grouped(many, [1] * 50)[1] == [0] * 50
