"""A preparation: every row accounted for, the same result however it is divided and interrupted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.plan import plan
from training.config.data import Source
from training.config.load import load_job
from training.data.readers.sources import locate, prepared_digest
from training.errors import DataError, JobError

STEP = {"step": "normalize"}
SENTENCE = "The quick brown fox number {} jumps over the lazy dog near river {} and sleeps there"


def _write(path: Path, rows: list[Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def _prepare(folder: Path, sources: Any, steps: Sequence[Any] = (), **settings: Any) -> Path:
    document = {
        "name": "tidy",
        "prepare": {
            "sources": sources, "steps": list(steps), "output": str(folder), "workers": 1,
            **settings,
        },
    }  # fmt: skip
    return Path(build(plan(parse_preparation(document, "job.yaml")), lambda *_: None))


def _report(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text())


def _rows(folder: Path, split: str = "train") -> list[Any]:
    files = sorted((folder / split).glob("*.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def _texts(count: int, start: int = 0) -> list[Any]:
    return [{"text": SENTENCE.format(n, n * 7 + 1)} for n in range(start, start + count)]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_rows_are_written_once_and_a_reader_finds_only_the_split(tmp_path: Path) -> None:
    data = _write(tmp_path / "a.jsonl", _texts(200))
    folder = _prepare(tmp_path / "out", str(data), split={"validation": 0.2})
    train, validation = _rows(folder), _rows(folder, "validation")
    assert sorted(row["text"] for row in train + validation) == sorted(
        row["text"] for row in _texts(200)
    )
    assert 20 <= len(validation) <= 60
    latest = folder.with_name("latest")
    located = locate(Source(source=str(latest)))
    assert {Path(label).parts[0] for _, label in located.files} == {"train"}
    records = [record for _, record in located.records()]
    assert len(records) == len(train), "report.json or rejected.jsonl was read as data"
    digest = prepared_digest(Source(source=str(latest)))
    assert digest == _report(folder)["content_digest"]
    assert prepared_digest(Source(source=str(data))) is None


def test_exact_and_near_duplicates_are_removed_and_the_first_one_stays(tmp_path: Path) -> None:
    rows = [{"text": " ".join(f"word{n}x{k}" for k in range(60))} for n in range(20)]
    near = {"text": rows[3]["text"].replace("word3x59", "changed")}
    data = _write(tmp_path / "a.jsonl", [*rows, rows[0], near, {"text": "hi"}, {"text": "hi"}])
    folder = _prepare(tmp_path / "out", str(data), [{"step": "duplicates", "action": "drop"}])
    assert _report(folder)["steps"][1]["rejected"] == {"exact": 2, "near": 1}
    rejected = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert {(row["row"], row["of"]) for row in rejected} == {
        ("a.jsonl:21", "a.jsonl:1"), ("a.jsonl:22", "a.jsonl:4"), ("a.jsonl:24", "a.jsonl:23"),
    }  # fmt: skip
    assert all("word" not in json.dumps(row) for row in rejected), "a record holds its text"


def test_rows_of_a_chain_that_do_not_resemble_each_other_stay(tmp_path: Path) -> None:
    """A resembles B and B resembles C; A does not resemble C, so that only B goes."""
    words = [f"w{k}" for k in range(100)]
    shifted = [" ".join(words[start : start + 60]) for start in (0, 12, 24)]
    data = _write(tmp_path / "a.jsonl", [{"text": text} for text in shifted])
    steps = [{"step": "duplicates", "action": "drop", "similarity": 0.6}]
    folder = _prepare(tmp_path / "out", str(data), steps)
    assert [row["row_id"] for row in _rows(folder)] == ["a.jsonl:1", "a.jsonl:3"]


def test_near_duplicates_that_are_kept_stay_on_one_side(tmp_path: Path) -> None:
    rows = []
    for n in range(60):
        words = [f"w{n}x{k}" for k in range(60)]
        rows += [{"text": " ".join(words)}, {"text": " ".join([*words[:-1], "other"])}]
    data = _write(tmp_path / "a.jsonl", rows)
    folder = _prepare(
        tmp_path / "out", str(data), [{"step": "duplicates"}], split={"validation": 0.4}
    )
    sides = [{row["text"].split()[0] for row in _rows(folder, s)} for s in ("train", "validation")]
    assert not sides[0] & sides[1]
    assert len(_rows(folder)) + len(_rows(folder, "validation")) == 120


def test_rows_added_later_move_no_other_row(tmp_path: Path) -> None:
    sides = []
    for count in (100, 150):
        data = _write(tmp_path / "a.jsonl", _texts(count))
        folder = _prepare(tmp_path / "out", str(data), split={"validation": 0.3})
        sides.append({row["text"] for row in _rows(folder, "validation")})
    assert sides[0] == {row["text"] for row in _texts(100)} & sides[1]


def test_rows_of_a_group_stay_on_one_side(tmp_path: Path) -> None:
    rows = [row | {"user": f"u{n % 30}"} for n, row in enumerate(_texts(300))]
    data = _write(tmp_path / "a.jsonl", rows)
    source = {"source": str(data), "group_by": "user"}
    folder = _prepare(tmp_path / "out", source, split={"validation": 0.3})
    users = {row["text"]: row["user"] for row in rows}
    sides = [{users[row["text"]] for row in _rows(folder, s)} for s in ("train", "validation")]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


@pytest.mark.slow
def test_the_result_depends_on_neither_workers_nor_interruptions(tmp_path: Path) -> None:
    rows = [*_texts(3000), *_texts(200)]
    data = _write(tmp_path / "a.jsonl", rows)
    steps = [{"step": "normalise"}, {"step": "duplicates", "action": "drop"}]
    settings = {"split": {"validation": 0.1}}

    def units(name: str, stop_after: int | None = None, workers: int = 1) -> Path:
        document = {
            "name": "tidy",
            "prepare": {
                "sources": str(data), "steps": steps, "output": str(tmp_path / name),
                "workers": workers, **settings,
            },
        }  # fmt: skip
        planned = plan(parse_preparation(document, "job.yaml"), unit_bytes=50_000)
        assert len(planned.units) > 3
        calls = iter(range(10**6))

        def progress(*_: Any) -> None:
            if stop_after is not None and next(calls) == stop_after:
                raise KeyboardInterrupt

        return Path(build(planned, progress))

    whole = _bytes(units("whole"))
    assert _bytes(units("two", workers=2)) == whole
    interruptions = 0
    while not list((tmp_path / "stopped").glob("tidy/[!.]*")):
        with contextlib.suppress(KeyboardInterrupt):
            units("stopped", stop_after=9)
        interruptions += 1
    assert interruptions > 4
    assert _bytes(units("stopped")) == whole


def test_unreadable_rows_are_rejected_and_counted(tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    lines = [orjson.dumps(row) for row in _texts(5)]
    data.write_bytes(b"\n".join([*lines, b'{"text": ', b'{"text": "caf\xe9"}', b'{"n": 1}', b""]))
    folder = _prepare(tmp_path / "out", str(data))
    report = _report(folder)
    assert (report["rows_read"], report["rows_written"]) == (8, 5)
    assert report["steps"][0]["rejected"] == {"unreadable": 3}
    rejected = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rejected] == ["a.jsonl:6", "a.jsonl:7", "a.jsonl:8"]


def test_a_source_without_a_readable_row_ends_the_preparation(tmp_path: Path) -> None:
    data = _write(tmp_path / "a.jsonl", [{"n": 1}, {"n": 2}])
    with pytest.raises(DataError, match=r"none of its 2 rows can be read.*a\.jsonl:1"):
        _prepare(tmp_path / "out", str(data))
    assert not list((tmp_path / "out" / "tidy").glob("[!.]*"))


def test_a_later_pass_refuses_other_rows(tmp_path: Path) -> None:
    from datatrove.io import get_datafolder

    from preparation.row_files import RowFileWriter, read_rows
    from preparation.rows import PreparedRow

    folder = get_datafolder(str(tmp_path))
    signatures = []
    for ids in (["a:1", "a:2"], ["a:1", "a:3"]):
        with RowFileWriter(folder, 0) as writer:
            for id_ in ids:
                writer.write(PreparedRow(id_, "a", "text", {"text": "x"}), "0")
        signatures.append((tmp_path / "rows/00000.signature.json").read_bytes())
    assert len(list(read_rows(folder, 0))) == 2
    (tmp_path / "rows/00000.signature.json").write_bytes(signatures[0])
    with pytest.raises(DataError, match="whose duplicates were found"):
        list(read_rows(folder, 0))


def test_all_problems_of_a_job_are_told_at_once(tmp_path: Path) -> None:
    document = {
        "name": "tidy",
        "prepare": {
            "sources": [
                str(tmp_path / "none.jsonl"),
                {"source": "builtin:python-stdlib", "weight": 2},
            ],
            "steps": [{"step": "normalise"}, {"step": "normalise"}],
        },
    }
    with pytest.raises(JobError) as caught:
        parse_preparation(document, "job.yaml")
    text = str(caught.value)
    assert "3 problems" in text
    for words in ("no such file", "uses each row once", "in the list twice"):
        assert words in text
    with pytest.raises(JobError, match=STEP["step"]):
        parse_preparation({"name": "x", "prepare": {"sources": "a", "steps": [STEP]}}, "j")


def test_documents_become_rows_and_a_damaged_one_is_rejected_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    page = "<html><body><article><p>A long paragraph about rivers.</p></article></body></html>"
    (folder / "a.html").write_text(page)
    (folder / "b.pdf").write_text("%PDF-1.4 broken")
    (folder / "c.jsonl").write_text('{"text": "a row"}\n')
    (folder / "d.md").write_text("# Title\n\nOne.\n\nTwo.\n")
    source = {"source": str(folder), "documents": True}
    result = _prepare(tmp_path / "out", source)
    assert {row["row_id"] for row in _rows(result)} == {"a.html", "c.jsonl:1", "d.md"}
    (rejected,) = [json.loads(line) for line in (result / "rejected.jsonl").open()]
    assert (rejected["row"], rejected["reason"]) == ("b.pdf", "damaged")


def test_a_preparation_that_leaves_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    data = _write(tmp_path / "a.jsonl", _texts(3))
    steps = [{"step": "duplicates"}, {"step": "language", "keep": ["de"], "action": "drop"}]
    with pytest.raises(DataError, match=r"no row is left of 3.*language: 3 rows"):
        _prepare(tmp_path / "out", str(data), steps)
    held_out = {"validation": 0.49, "test": 0.5}
    with pytest.raises(DataError, match=r"all 1 rows are held out \((test|validation) 1\)"):
        _prepare(tmp_path / "out", str(_write(tmp_path / "b.jsonl", _texts(1))), split=held_out)
    assert not [path for path in (tmp_path / "out" / "tidy").iterdir() if path.name[0] != "."]


def test_a_share_that_holds_out_no_row_is_named(tmp_path: Path) -> None:
    data = _write(tmp_path / "a.jsonl", _texts(2))
    folder = _prepare(tmp_path / "out", str(data), split={"validation": 0.001})
    (notice,) = _report(folder)["notices"]
    assert notice.startswith("split.validation: 0.1% of 2 rows is no row")
    for name in ("report.html", "README.md"):
        assert "split.validation: 0.1% of 2 rows is no row" in (folder / name).read_text()


def test_row_longer_than_a_block_is_read_whole(tmp_path: Path) -> None:
    long = "word " * 500_000
    rows = [*_texts(2), {"text": long.strip()}, *_texts(2, 5)]
    steps = [{"step": "duplicates", "action": "drop"}]
    folder = _prepare(tmp_path / "out", str(_write(tmp_path / "a.jsonl", rows)), steps)
    assert [row["text"] for row in _rows(folder)] == [row["text"] for row in rows]


def test_report_opens_with_the_balance_of_rows(tmp_path: Path) -> None:
    rows = [*_texts(5), *_texts(2), {"text": " ".join(_texts(1, 9)[0]["text"] for _ in range(4))}]
    steps = [{"step": "duplicates", "action": "drop"}, {"step": "chunk", "max_characters": 100}]
    folder = _prepare(tmp_path / "out", str(_write(tmp_path / "a.jsonl", rows)), steps)
    made = _report(folder)["rows_written"] - 6
    assert made >= 2
    balance = f"8 read − 2 rejected + {made} made by dividing documents = {6 + made} written"
    assert balance in (folder / "report.html").read_text()


@pytest.mark.parametrize("place", ["", "out", "out/tidy", "out/tidy/latest"])
def test_a_source_that_holds_the_result_is_refused(place: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    data = _write(tmp_path / "a.jsonl", _texts(30))
    folder = _prepare(tmp_path / "out", str(data))
    before = _bytes(folder)
    with pytest.raises(JobError, match="so that the next run would read it as data"):
        _prepare(tmp_path / "out", str(tmp_path / place))
    assert _bytes(folder) == before
    document = {"sources": str(folder.with_name("latest")), "output": output}
    parse_preparation({"name": "second", "prepare": document}, "job.yaml")


def test_benchmarks_are_found_next_to_the_job(tmp_path: Path) -> None:
    _write(tmp_path / "items.jsonl", _texts(1))
    _write(tmp_path / "a.jsonl", _texts(5))
    steps = [{"step": "decontaminate", "against": ["items.jsonl"], "action": "drop"}]
    settings = {"sources": "a.jsonl", "steps": steps, "output": str(tmp_path / "out")}
    document = {"name": "tidy", "prepare": {**settings, "workers": 1}}
    planned = plan(parse_preparation(document, "job.yaml", tmp_path))
    report = _report(Path(build(planned, lambda *_: None)))
    assert report["steps"][1]["rejected"]["benchmark_copy"] == 1


def test_a_training_command_says_what_the_job_of_a_preparation_is_for(tmp_path: Path) -> None:
    job = tmp_path / "prepare.yaml"
    job.write_text("name: tidy\nprepare: {sources: a.jsonl}\n")
    with pytest.raises(JobError) as error:
        load_job(job)
    (problem,) = error.value.problems
    assert f"temper prepare {job}" in problem.fix


@pytest.mark.parametrize("value", [Decimal("1.5"), b"\xff", [{"a": Decimal(2)}]])
def test_a_column_that_json_cannot_hold_is_named(value: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "first", "odd": value}, {"prompt": "second", "odd": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "odd.parquet")
    folder = _prepare(tmp_path / "out", str(tmp_path / "odd.parquet"))
    (rejected,) = [orjson.loads(line) for line in (folder / "rejected.jsonl").open()]
    assert rejected["row"] == "odd.parquet:1"
    assert "column odd" in rejected["detail"]
