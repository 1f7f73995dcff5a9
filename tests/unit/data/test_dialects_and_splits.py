"""Dialects of tables, splits of folders, and prompts on one side of the held-out split."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.data_factories import byte_level, make_job, write_jsonl
from training.config.data import Source
from training.data.prepare import Prepared, prepare
from training.data.readers.formats import read_file
from training.data.readers.records import SourceRecord
from training.data.readers.sources import locate
from training.data.tokenization.token_rows import IGNORE
from training.errors import DataError

FIELDS = [
    ("def f():", "    return 1"),
    ("Capital of France?", " Paris"),
    ('he said "yes", twice', '  "quoted"\nand a second, line'),
    ('5" disk', "a"),
]


def values(path: Path) -> list[dict[str, Any]]:
    read = list(read_file(path, path.name))
    assert all(isinstance(record, SourceRecord) for record in read), read
    return [record.values for record in read if isinstance(record, SourceRecord)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("first", ["", "sep", "\n\n", "\ufeff"])
def test_a_table_reads_back_as_it_was_written(
    delimiter: str, quoting: Any, first: str, tmp_path: Path
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)
    writer.writerows([("prompt", "completion"), *FIELDS])
    opening = f"sep={delimiter}\r\n" if first == "sep" else first
    path = tmp_path / "a.csv"
    path.write_text(opening + stream.getvalue(), encoding="utf-8", newline="")
    assert values(path) == [{"prompt": p, "completion": c} for p, c in FIELDS]


def test_spaces_before_quotes_are_not_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion\nx,  "a, ""b""\n c"\n "y", z\n')
    assert values(path) == [
        {"prompt": "x", "completion": 'a, "b"\n c'},
        {"prompt": "y", "completion": " z"},
    ]


def test_a_separator_inside_quotes_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"prompt, or question";completion\nhi;there\n')
    assert values(path) == [{"prompt, or question": "hi", "completion": "there"}]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".txt"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_named(suffix: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes('{"text": "a"}\n'.encode(encoding))
    with pytest.raises(DataError, match=r"it is UTF-16.*Save it as UTF-8"):
        list(read_file(path, "a"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".txt"])
def test_a_byte_order_mark_is_not_content(suffix: str, tmp_path: Path) -> None:
    content = {".csv": "text\na\n", ".jsonl": '{"text": "a"}\n', ".json": '[{"text": "a"}]'}
    path = tmp_path / f"a{suffix}"
    path.write_text(content.get(suffix, "a\n"), encoding="utf-8-sig")
    assert values(path) == [{"text": "a"}]


@pytest.mark.parametrize(
    ("names", "split", "read"),
    [
        (["data/train-0-of-1.jsonl", "data/test-0-of-1.jsonl"], "train",
         ["data/train-0-of-1.jsonl"]),
        (["train.jsonl", "dev.jsonl", "more.jsonl"], "train", ["more.jsonl", "train.jsonl"]),
        (["train/a.jsonl", "validation/a.jsonl"], "train", ["train/a.jsonl"]),
        (["train.jsonl", "val.jsonl"], "validation", ["val.jsonl"]),
        (["test.jsonl", "contest.jsonl"], "train", ["contest.jsonl", "test.jsonl"]),
        (["latest.jsonl", "training_notes.jsonl"], "train",
         ["latest.jsonl", "training_notes.jsonl"]),
    ],
)  # fmt: skip
def test_a_folder_is_read_by_its_splits(
    names: list[str], split: str, read: list[str], tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_jsonl(tmp_path / name, [{"prompt": name, "completion": "a"}])
    located = locate(Source(source=str(tmp_path), split=split))
    assert sorted(label for _, label in located.files) == read
    assert sorted(located.left_out) == sorted(set(names) - set(read))
    with pytest.raises(DataError, match="no file of this folder names the split 'extra'"):
        locate(Source(source=str(tmp_path), split="extra"))


def prepared(path: Path, tmp_path: Path, **data: Any) -> Prepared:
    job = make_job(path, template="chatml", **data)
    return prepare(job, byte_level(), cache_dir=tmp_path / "cache", run_dir=tmp_path / "run")


def test_files_of_other_splits_are_named(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"prompt": name, "completion": "a"}] * 2)
    run = prepared(tmp_path, tmp_path)
    assert run.report.rows_read == 2
    (warning,) = (w for w in run.report.warnings if "not trained on" in w)
    assert "test.jsonl" in warning


@pytest.mark.parametrize("shape", ["messages", "columns"])
@pytest.mark.parametrize("loss_on", ["assistant", "completion", "all"])
def test_answers_to_one_question_stay_on_one_side(shape: str, loss_on: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for number in range(40):
        question, answer = f"question {number // 4}", f"answer {number}"
        if shape == "messages":
            user, said = {"role": "user", "content": question}, {"role": "assistant"}
            rows.append({"messages": [user, {**said, "content": answer}]})
        else:
            rows.append({"prompt": question, "completion": answer})
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    run = prepared(path, tmp_path, loss_on=loss_on, validation={"split": "25%"})
    assert run.validation is not None

    def questions(table: Any) -> set[str]:
        texts = (run.row_tokenizer.encoder.decode(row["input_ids"]) for row in table)
        return {text.split("<|im_end|>")[0] for text in texts}

    train = questions([run.train[i] for i in range(len(run.train))])
    held = questions([run.validation[i] for i in range(len(run.validation))])
    assert len(held) >= 2
    if loss_on != "all":
        assert not train & held
        assert any(label == IGNORE for label in run.train[0]["labels"])
