"""Held-out split by group: a thread, a user or a document is never on both sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.plan import plan
from tests.unit.data.data_factories import make_job, write_jsonl
from training.config.job import Job
from training.config.load import parse_job
from training.data.mixing.group_split import SourceGroups, hold_out_groups
from training.data.prepare import Prepared, iter_texts, prepare
from training.errors import DataError

Prepare = Callable[..., Prepared]
SEED = 7
"""Seed of `make_job`."""
BY_THREAD = {"split": "25%", "by": "group", "column": "thread"}
_SCRATCH = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 300,
}


def _text(i: int) -> dict[str, Any]:
    return {"text": f"text {i} the cat sat on a mat"}


def _pair(i: int) -> dict[str, Any]:
    return {"prompt": f"question {i}", "completion": f"the answer {i}"}


def _messages(i: int) -> dict[str, Any]:
    turns = [("user", f"question {i}"), ("assistant", f"the answer {i}")] * 4
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def _preference(i: int) -> dict[str, Any]:
    return {"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"}


def _unpaired(i: int) -> dict[str, Any]:
    return {**_pair(i), "label": i % 2 == 0}


def _rows(make: Callable[[int], dict[str, Any]], count: int = 60) -> list[dict[str, Any]]:
    return [{**make(i), "thread": f"t{i % 20}"} for i in range(count)]


def _lines(table: Any, name: str = "a.jsonl") -> set[int]:
    ids = [id_.split("#")[0] for i in range(len(table)) for id_ in table[i]["ids"]]
    return {int(id_.split(":")[1]) - 1 for id_ in ids if id_.startswith(f"{name}:")}


def _threads(table: Any, rows: Sequence[dict[str, Any]], name: str = "a.jsonl") -> set[str]:
    return {str(rows[line]["thread"]) for line in _lines(table, name)}


def _held(thread: object, seed: int, share: float) -> bool:
    """Return the documented rule, written out."""
    key = f"{seed}\0group {thread}".encode()
    number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
    return number / 2**64 < share


@pytest.mark.parametrize(
    ("make", "method", "data"),
    [
        (_text, "pretrain", {}),
        (_text, "pretrain", {"packing": True}),
        (_pair, "sft", {}),
        (_messages, "sft", {"long_conversations": "split", "template": "chatml"}),
        (_preference, "dpo", {}),
        (_unpaired, "kto", {}),
    ],
    ids=["text", "packed", "pairs", "messages", "preference", "unpaired"],
)
def test_no_group_is_on_both_sides(
    prepared: Prepare,
    tmp_path: Path,
    make: Callable[[int], dict[str, Any]],
    method: str,
    data: dict[str, Any],
) -> None:
    rows = _rows(make)
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    result = prepared(path, method=method, validation=BY_THREAD, max_length=128, **data)
    train, held = _threads(result.train, rows), _threads(result.validation, rows)
    assert held and train and not train & held
    assert held == {f"t{i}" for i in range(20) if _held(f"t{i}", SEED, 0.25)}
    assert _lines(result.train) | _lines(result.validation) == set(range(60))
    counts = result.report.groups
    assert counts is not None
    assert (counts.groups_train, counts.groups_held) == (len(train), len(held))
    assert (counts.rows_train, counts.rows_held) == (3 * len(train), 3 * len(held))
    assert any("split by thread" in line for line in result.report.summary())
    assert not any("thread" in warning for warning in result.report.warnings)
    assert all("thread" not in source.columns_unused for source in result.report.sources)


def test_added_rows_move_none(prepared: Prepare, tmp_path: Path) -> None:
    rows = _rows(_pair)
    before = prepared(write_jsonl(tmp_path / "a.jsonl", rows), validation=BY_THREAD)
    more = [{**_pair(i), "thread": f"t{i % 35}"} for i in range(60, 130)]
    after = prepared(write_jsonl(tmp_path / "a.jsonl", rows + more), validation=BY_THREAD)
    assert _lines(before.validation) == {n for n in _lines(after.validation) if n < 60}
    assert len(_lines(after.validation)) > len(_lines(before.validation))


def test_sources_agree_on_a_group(prepared: Prepare, tmp_path: Path) -> None:
    """A number in one file, and its text in another, are one group."""
    first = [{**_pair(i), "thread": i % 20} for i in range(40)]
    second = [{**_pair(100 + i), "thread": str(i % 20)} for i in range(40)]
    paths = [
        str(write_jsonl(tmp_path / "a.jsonl", first)),
        str(write_jsonl(tmp_path / "b.jsonl", second)),
    ]
    result = prepared(paths, validation=BY_THREAD)
    held = [
        _threads(result.validation, rows, name)
        for rows, name in ((first, "a.jsonl"), (second, "b.jsonl"))
    ]
    assert held[0] == held[1] != set()
    assert not held[0] & _threads(result.train, second, "b.jsonl")


def test_a_source_without_the_column_is_pointed_out(prepared: Prepare, tmp_path: Path) -> None:
    first = _rows(_pair)
    # Each row twice: rows without a value are groups by their content.
    second = [_pair(100 + i // 2) for i in range(80)]
    paths = [
        str(write_jsonl(tmp_path / "a.jsonl", first)),
        str(write_jsonl(tmp_path / "b.jsonl", second)),
    ]
    result = prepared(paths, validation=BY_THREAD)
    assert result.report.groups is not None and result.report.groups.rows_without == 80
    assert any("b.jsonl: no row has the column thread" in w for w in result.report.warnings)
    trained, held = _lines(result.train, "b.jsonl"), _lines(result.validation, "b.jsonl")
    assert held and not {n // 2 for n in trained} & {n // 2 for n in held}
    assert result.report.leaked == 0


def test_rows_without_a_value_are_counted(prepared: Prepare, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = _rows(_pair)
    rows[3]["thread"], rows[4]["thread"] = None, ""
    report = prepared(write_jsonl(tmp_path / "a.jsonl", rows), validation=BY_THREAD).report
    assert any(w.startswith("2 rows have no value in thread") for w in report.warnings)


def test_a_prompt_in_two_groups_is_counted(prepared: Prepare, tmp_path: Path) -> None:
    rows = _rows(_pair)
    held = next(i for i in range(20) if _held(f"t{i}", SEED, 0.25))
    trained = next(i for i in range(20) if not _held(f"t{i}", SEED, 0.25))
    rows[held]["prompt"] = rows[trained]["prompt"]
    report = prepared(write_jsonl(tmp_path / "a.jsonl", rows), validation=BY_THREAD).report
    assert report.groups is not None and report.groups.prompts_shared == 1
    assert any("1 of the held-out rows have a prompt that" in w for w in report.warnings)


def test_unreadable_rows_and_limits_keep_the_numbers(prepared: Prepare, tmp_path: Path) -> None:
    rows = _rows(_pair)
    lines = [json.dumps(row) for row in rows]
    lines[5], lines[7] = "{", json.dumps({"prompt": 3, "completion": None, "thread": "t7"})
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines) + "\n")
    result = prepared(path, validation=BY_THREAD, on_error="skip", limit=50)
    train, held = _threads(result.train, rows), _threads(result.validation, rows)
    assert held == {f"t{i}" for i in range(20) if _held(f"t{i}", SEED, 0.25)}
    assert not train & held
    assert _lines(result.train) | _lines(result.validation) == set(range(50)) - {5, 7}


@pytest.mark.parametrize(
    ("thread", "message"),
    [
        (lambda i: None, "no row has a value in 'thread'. Columns found: prompt, completion"),
        (lambda i: "same", "all rows have the same value in 'thread'"),
    ],
    ids=["no value", "one value"],
)
def test_a_column_that_divides_nothing(
    prepared: Prepare, tmp_path: Path, thread: Callable[[int], str | None], message: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{**_pair(i), "thread": thread(i)} for i in range(9)])
    with pytest.raises(DataError, match=message):
        prepared(path, validation=BY_THREAD)


def _source(sizes: dict[int, int]) -> SourceGroups:
    digests = [digest for digest, count in sizes.items() for _ in range(count)]
    every = np.ones(len(digests), dtype=np.bool_)
    return SourceGroups("a.jsonl", np.array(digests, dtype=np.uint64), every, ("text", "thread"))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({2**62: 3, 2**63: 3}, r"none of the 2 groups .* Raise it to 25\.1%"),
        ({2**40: 9, 2**63: 3}, r"holds out 9 of 12 rows, because 75% of them are in one group"),
        ({2**40: 1, 2**41: 1}, r"holds out 2 of 2 rows"),
    ],
    ids=["nothing held out", "most held out", "everything held out"],
)
def test_a_side_of_no_use(sizes: dict[int, int], message: str) -> None:
    source = _source(sizes)
    with pytest.raises(DataError, match=message):
        hold_out_groups([source], [np.arange(len(source.digests))], 0.05, "thread")


def test_a_large_group_to_train_on_is_pointed_out() -> None:
    source = _source({2**40: 1, 2**63: 9})
    *_, counts = hold_out_groups([source], [np.arange(10)], 0.05, "thread")
    assert "90% of the rows are in one group of thread" in counts.warnings()[0]


def test_a_trained_tokenizer_sees_no_held_out_group(
    tmp_path: Path, llama: PreTrainedTokenizerFast
) -> None:
    rows = _rows(lambda i: {"text": f"document{i}x the cat sat"})
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    job = _job(path, BY_THREAD)
    result = prepare(job, llama, cache_dir=tmp_path / "cache", run_dir=tmp_path / "run")
    held = _lines(result.validation)
    seen = "\n".join(iter_texts(job))
    assert held and {i for i in range(60) if f"document{i}x" not in seen} == held


def _job(path: Path, validation: dict[str, Any]) -> Job:
    document = {
        "name": "scratch",
        "model": {"source": "scratch", "scratch": _SCRATCH},
        "data": {"train": str(path), "validation": validation, "workers": 1},
        "method": {"kind": "pretrain"},
    }
    job = parse_job(document, "test")
    assert isinstance(job, Job)
    return job


def test_workers_and_caches_change_nothing(tmp_path: Path, llama: PreTrainedTokenizerFast) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", _rows(_text))
    jobs = [make_job(path, method="pretrain", validation=BY_THREAD, workers=n) for n in (1, 2)]
    results = [
        prepare(job, llama, cache_dir=tmp_path / f"cache{n}", run_dir=tmp_path / f"run{n}")
        for n, job in enumerate(jobs)
    ]
    # Read again from the cache, as a resumed run does.
    results.append(
        prepare(jobs[0], llama, cache_dir=tmp_path / "cache0", run_dir=tmp_path / "again")
    )
    assert len({result.report.digest for result in results}) == 1
    assert len({result.validation.digest for result in results if result.validation}) == 1
    assert len({str(result.report.groups) for result in results}) == 1


def test_a_split_by_row_is_what_it_was(tmp_path: Path, llama: PreTrainedTokenizerFast) -> None:
    """`by: row` is the default, and shares its cache entries."""
    path = write_jsonl(tmp_path / "a.jsonl", _rows(_text))
    cache = tmp_path / "cache"
    found = []
    for validation in ({"split": "25%"}, {"split": "25%", "by": "row"}, BY_THREAD):
        job = make_job(path, method="pretrain", validation=validation)
        result = prepare(job, llama, cache_dir=cache, run_dir=tmp_path / "run")
        found.append((result.report.digest, len(list(cache.iterdir()))))
    assert found[0] == found[1]
    assert found[2][0] != found[0][0]
    rng = np.random.default_rng(SEED)
    drawn = {int(n) for n in rng.permutation(60)[:15]}
    first = prepare(
        make_job(path, method="pretrain", validation={"split": "25%"}),
        llama, cache_dir=cache, run_dir=tmp_path / "run",
    )  # fmt: skip
    assert _lines(first.validation) == drawn and first.report.groups is None


def test_parts_and_near_duplicates_of_prepared_data_stay_together(
    prepared: Prepare, tmp_path: Path
) -> None:
    """`row_group` of `temper prepare` is the document, the thread, or the near duplicates."""
    documents = [" ".join(f"word{n}x{k}" for k in range(60)) for n in range(30)]
    rows = [{"text": text, "user": f"ada{n}"} for n, text in enumerate(documents)]
    rows += [{"text": row["text"] + " again", "user": f"bob{n}"} for n, row in enumerate(rows)]
    path = write_jsonl(tmp_path / "raw.jsonl", rows)
    steps = [
        {"step": "duplicates", "action": "report", "similarity": 0.8},
        {"step": "chunk", "max_characters": 200},
    ]
    document = {
        "name": "tidy",
        "prepare": {"sources": str(path), "steps": steps, "output": str(tmp_path), "workers": 1},
    }
    folder = build(plan(parse_preparation(document, "job.yaml")), lambda *_: None)
    tables = [pq.read_table(file) for file in Path(folder, "train").glob("*.parquet")]
    written = {row["row_id"]: row["row_group"] for table in tables for row in table.to_pylist()}
    assert len(written) > 2 * len(rows), "documents were not divided"
    numbers = {row_id.partition("#")[0] for row_id in written}
    groups = {
        number: {group for row_id, group in written.items() if row_id.partition("#")[0] == number}
        for number in numbers
    }
    assert all(len(found) == 1 for found in groups.values())
    by_line = {int(number.rpartition(":")[2]): found for number, found in groups.items()}
    half = len(documents)
    assert all(by_line[n] == by_line[n + half] for n in range(1, half + 1)), "near duplicates"
    assert not any("ada" in group for group in written.values())
    latest = tmp_path / "tidy" / "latest"
    by_group = {"split": "30%", "by": "group", "column": "row_group"}
    result = prepared(latest, method="pretrain", validation=by_group, max_length=256)
    counts = result.report.groups
    assert counts is not None
    assert counts.rows_without == 0
    assert counts.groups_train + counts.groups_held == len(set(written.values()))
    assert counts.groups_held > 0
