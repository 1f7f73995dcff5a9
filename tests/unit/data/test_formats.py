from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data.data_factories import gzipped, write_jsonl
from training.data.readers.formats import read_file
from training.data.readers.records import BadRecord, SourcePosition, SourceRecord
from training.errors import DataError

LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
ROWS = [{"text": "one"}, {"text": "zwei äöü"}, {"text": "三\nlines"}]


def read(path: Path, start: SourcePosition | None = None) -> list[SourceRecord | BadRecord]:
    return list(read_file(path, path.name, *([start] if start else [])))


def write(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"data.{kind}"
    if kind == "jsonl":
        write_jsonl(path, ROWS)
    elif kind == "json":
        path.write_text(json.dumps(ROWS))
    elif kind == "csv":
        path.write_text('text\none\nzwei äöü\n"三\nlines"\n')
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_holds_the_same_records(tmp_path: Path, kind: str, packed: bool) -> None:
    path = write(tmp_path, kind)
    path = gzipped(path) if packed else path
    assert [record.values for record in read(path) if isinstance(record, SourceRecord)] == ROWS


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("packed", [False, True])
def test_reading_resumes_at_any_position(tmp_path: Path, kind: str, packed: bool) -> None:
    path = write(tmp_path, kind)
    path = gzipped(path) if packed else path
    whole = read(path)
    for index, record in enumerate(whole):
        assert read(path, record.position) == whole[index:]


def test_reading_text_resumes_at_any_position(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"Paragraph {i} " + "word " * 100 for i in range(40)))
    whole = read(path)
    assert len(whole) > 5
    for index, record in enumerate(whole):
        assert read(path, record.position) == whole[index:]


def test_origins_name_file_and_line(tmp_path: Path) -> None:
    assert [r.origin for r in read(write(tmp_path, "jsonl"))] == [
        f"data.jsonl:{i}" for i in (1, 2, 3)
    ]
    # A header is line 1, and a quoted field may span lines.
    path = tmp_path / "b.csv"
    path.write_text('text\n"a\nb"\nc\n')
    assert [r.origin for r in read(path)] == ["b.csv:2", "b.csv:4"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'{"text": "a"}\n{"text": \n', "not JSON"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', "not UTF-8 at byte 11"),
        (b'{"text": "a"}\n[1]\n', "an object with named fields"),
        (b'{"text": "a"}\n{"text": "b"},\n', "remove the comma at the end of the line"),
        (b'{"text": "a"}\n{"text": "b", "score": NaN}\n', "write null"),
        (b'{"text": "a"}\n{"text": "b", "score": -Infinity}\n', "write null"),
        (b'{"text": "a"}\n{"text": "b \\ud83d"}\n', "cut inside an emoji"),
        (b"{\"text\": \"a\"}\n{'text': 'b', 'good': True}\n", "write it with json.dumps"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_is_read(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content + b'{"text": "c"}\n')
    good, bad, last = read(path)
    assert isinstance(good, SourceRecord) and isinstance(last, SourceRecord)
    assert isinstance(bad, BadRecord)
    assert bad.origin == "a.jsonl:2"
    assert fault in bad.reason


def test_csv_tolerates_spaces_and_names_ragged_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"\xef\xbb\xbfprompt, expected completion\nhi, there\na,b,c\n"
        b'"q, with comma", "an answer"\nbroken \xff, x\n'
    )
    first, ragged, quoted, broken = read(path)
    assert isinstance(first, SourceRecord) and isinstance(quoted, SourceRecord)
    assert first.values == {"prompt": "hi", "expected completion": "there"}
    assert quoted.values == {"prompt": "q, with comma", "expected completion": "an answer"}
    assert isinstance(ragged, BadRecord) and isinstance(broken, BadRecord)
    assert ragged.origin == "a.csv:3" and "3 fields where the header has 2" in ragged.reason
    assert broken.origin == "a.csv:5" and "UTF-8" in broken.reason


@pytest.mark.parametrize(("name", "mark"), [("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", "\t")])
def test_other_delimiters(tmp_path: Path, name: str, mark: str) -> None:
    path = tmp_path / name
    path.write_text(f"prompt{mark}completion\nhello, you{mark}hi\n")
    (record,) = read(path)
    assert isinstance(record, SourceRecord)
    assert record.values == {"prompt": "hello, you", "completion": "hi"}


def test_an_open_quote_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion\na,b\n"open,c\n')
    good, bad = read(path)
    assert isinstance(good, SourceRecord) and isinstance(bad, BadRecord)
    assert bad.origin == "a.csv:3"


def test_a_truncated_gzip_is_an_error(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "word " * 50 + str(i)} for i in range(500)])
    packed = gzipped(path)
    packed.write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: the gzip file is cut short"):
        read(packed)
    packed.write_bytes(b"not gzip at all")
    with pytest.raises(DataError, match="not a valid gzip"):
        read(packed)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"PAR1 nonsense PAR1", "not a valid Parquet file"),
        ("a.json", b'[{"text": "a"},', "not JSON"),
        ("a.json", b'[{"text": "\xff"}]', "not UTF-8 on line 1"),
        ("a.json", b'[{"text": "a", "score": NaN}]', "write null"),
        ("a.jsonl.gz", b'{"text": "a"}\n', "rename it without .gz"),
        ("a.json", b"3", "array of objects"),
        ("a.csv", "prompt,completion\r\na,b\r\n".encode("utf-16"), "UTF-16"),
        ("a.jsonl", '{"text": "a"}\n'.encode("utf-16"), "UTF-16"),
        ("a.csv", b"prompt,completion\ra,b\r", "CR alone"),
        ("a.csv", b"prompt,completion,completion\na,b,c\n", "names completion more than once"),
        ("a.jsonl", b"\x1f\x8b\x08\x00rest", "end in .gz"),
        ("a.csv", b"PK\x03\x04rest", "zip archive"),
        ("a.parquet", LFS_POINTER, "git lfs pull"),
        ("a.parquet.gz", LFS_POINTER, "git lfs pull"),
        ("a.jsonl", LFS_POINTER, "git lfs pull"),
        ("a.csv", LFS_POINTER, "git lfs pull"),
        ("a.txt", LFS_POINTER, "git lfs pull"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_an_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(path)


@pytest.mark.parametrize("name", ["table.json", "table.jsonl", "table.json.gz"])
@pytest.mark.parametrize("orient", [None, "columns", "index", "split"])
def test_a_table_that_pandas_wrote_is_named_with_its_orientation(
    tmp_path: Path, name: str, orient: Any
) -> None:
    path = tmp_path / name
    table = pd.DataFrame({"prompt": ["a", "b"], "completion": ["c", "d"]}, index=[4, 7])
    table.to_json(path, orient=orient)
    with pytest.raises(DataError, match=rf"orient='{orient or 'columns'}'.*orient=\"records\""):
        read(path)
    table.to_json(fixed := tmp_path / "fixed.jsonl", orient="records", lines=True)
    assert [record.values for record in read(fixed) if isinstance(record, SourceRecord)] == [
        {"prompt": "a", "completion": "c"},
        {"prompt": "b", "completion": "d"},
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": {"role": "user"}, "completion": {"role": "assistant"}},
        {"text": "a", "scores": {"0": 1}},
        {"columns": "a", "index": 1, "data": "b"},
        {},
    ],
)
def test_a_row_of_objects_is_not_a_pandas_table(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [row])
    assert [record.values for record in read(path) if isinstance(record, SourceRecord)] == [row]


def test_broken_text_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"good line\nbad \xe4 line\n")
    (bad,) = read(path)
    assert isinstance(bad, BadRecord) and "not UTF-8 on line 2" in bad.reason


def test_text_documents_keep_paragraphs_whole(tmp_path: Path) -> None:
    paragraphs = [f"{i} " + "word " * (i % 37) for i in range(300)]
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(paragraphs))
    texts = [r.values["text"] for r in read(path) if isinstance(r, SourceRecord)]
    assert len(texts) > 3
    assert [p for text in texts for p in text.split("\n\n")] == [p.strip("\n") for p in paragraphs]


def test_a_text_without_paragraphs_is_cut_at_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a line of some words\n" * 5_000)
    texts = [r.values["text"] for r in read(path) if isinstance(r, SourceRecord)]
    assert len(texts) > 5
    assert "\n".join(texts).count("a line of some words") == 5_000
    assert max(map(len, texts)) < 10_000


def test_one_conversation_alone_in_a_json_file_is_one_record(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    path.write_text(json.dumps({"conversations": turns}))
    (record,) = read(path)
    assert isinstance(record, SourceRecord) and record.values == {"conversations": turns}


def test_a_record_over_several_lines_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{\n  "text": "a"\n}\n')
    first = next(iter(read(path)))
    assert isinstance(first, BadRecord) and "one per line" in first.reason
