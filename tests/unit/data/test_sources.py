from __future__ import annotations

import socket
import time
from pathlib import Path

import datasets
import pytest

from tests.unit.data.data_factories import write_jsonl
from training.config.data import Source
from training.data.readers.records import SourceRecord
from training.data.readers.sources import ReadCursor, locate
from training.errors import DataError


def texts(name: str | Path, **source: object) -> list[str]:
    found = locate(Source(source=str(name), **source))
    return [r.values["text"] for _, r in found.records() if isinstance(r, SourceRecord)]


def test_a_folder_is_read_in_order_and_without_notes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write_jsonl(tmp_path / "b.jsonl", [{"text": "two"}])
    write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}])
    write_jsonl(tmp_path / "sub" / "c.jsonl", [{"text": "three"}])
    for name in ("README.md", "LICENSE.txt", ".hidden.jsonl", "notes.docx"):
        (tmp_path / name).write_text("not data")
    (tmp_path / "empty.jsonl").touch()
    assert texts(tmp_path) == ["one", "two", "three"]
    located = locate(Source(source=str(tmp_path)))
    origins = [record.origin for _, record in located.records()]
    assert origins == ["a.jsonl:1", "b.jsonl:1", "sub/c.jsonl:1"]


def test_reading_resumes_in_a_later_file(tmp_path: Path) -> None:
    for name in "abc":
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name}{i}"} for i in range(3)])
    located = locate(Source(source=str(tmp_path)))
    whole = list(located.records())
    for index, (cursor, _) in enumerate(whole):
        assert list(located.records(cursor)) == whole[index:]
    assert list(located.records(ReadCursor(file=3))) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.jsonl", "there is no such file"),
        ("./missing", "there is no such file"),
        ("/nowhere/at/all.csv", r"nor a folder /nowhere"),
        ("a/b/c", "there is no such file"),
        ("s3://bucket/key.jsonl", "channel:NAME"),
        ("builtin:novels", "builtin:python-stdlib"),
    ],
)
def test_what_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        locate(Source(source=name))


def test_a_misspelt_file_is_suggested(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "tickets.jsonl", [{"text": "a"}])
    with pytest.raises(DataError, match=r"Did you mean .*tickets\.jsonl"):
        locate(Source(source=str(tmp_path / "ticket.jsonl")))


def test_empty_and_unreadable_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="the file is empty"):
        locate(Source(source=str(tmp_path / "empty.csv")))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="no data in this folder"):
        locate(Source(source=str(tmp_path / "folder")))
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="not a supported file format"):
        locate(Source(source=str(tmp_path / "table.xlsx")))


def test_channels_come_from_the_container(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "in the channel"}])
    environment = {"SM_CHANNEL_TRAIN": str(tmp_path)}
    located = locate(Source(source="channel:train"), environment)
    assert [r.values for _, r in located.records()] == [{"text": "in the channel"}]
    with pytest.raises(DataError, match="Channels here: train"):
        locate(Source(source="channel:other"), environment)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub address on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)


@pytest.mark.usefixtures("no_hub")
def test_a_hub_id_without_network_fails_fast_and_clearly() -> None:
    located = locate(Source(source="someone/some-data"))
    start = time.monotonic()
    with pytest.raises(DataError, match=r"someone/some-data: .*the Hub cannot be reached"):
        list(located.records())
    assert time.monotonic() - start < 20


def test_the_digest_follows_content_not_place(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        text = "same" if folder != "c" else "other"
        write_jsonl(tmp_path / folder / "x.jsonl", [{"text": text}])
    digests = [locate(Source(source=str(tmp_path / f / "x.jsonl"))).digest() for f in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_packed_files_in_a_folder_are_not_left_out_silently(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}])
    (tmp_path / "b.jsonl.zst").write_bytes(b"packed")
    with pytest.raises(DataError, match=r"b\.jsonl\.zst would be left out"):
        locate(Source(source=str(tmp_path)))


@pytest.mark.parametrize("splits", [False, True])
def test_a_folder_of_save_to_disk_is_named_with_a_command_that_converts_it(
    tmp_path: Path, splits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    table = datasets.Dataset.from_list(rows)
    saved = datasets.DatasetDict(test=table.select([0]), train=table) if splits else table
    saved.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="save_to_disk wrote") as error:
        locate(Source(source=str(tmp_path / "saved")))
    monkeypatch.chdir(tmp_path)
    exec(str(error.value).split('python -c "')[1].removesuffix('"'), {})
    converted = locate(Source(source=f"{'train' if splits else 'saved'}.parquet"))
    assert [
        record.values for _, record in converted.records() if isinstance(record, SourceRecord)
    ] == rows
