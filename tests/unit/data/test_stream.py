from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.data_factories import gzipped, make_job, write_jsonl
from training.data.prepare import Prepared, prepare
from training.data.storage import stream
from training.data.storage.stream import StreamTable
from training.errors import DataError

Prepare = Callable[..., Prepared]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW", 32)


def texts(path: Path, count: int = 150, name: str = "doc") -> Path:
    return write_jsonl(
        path, [{"text": f"{name} {i} " + "the cat sat " * (1 + i % 17)} for i in range(count)]
    )


def table(prepared: Prepare, source: Any, **job: Any) -> StreamTable:
    job = {"method": "pretrain", "max_length": 64, "streaming": True, **job}
    found = prepared(source, **job).train
    assert isinstance(found, StreamTable)
    return found


def taken(found: StreamTable, start: int, stop: int) -> list[dict[str, Any]]:
    return [found[i] for i in range(start, stop)]


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "folder"])
def test_a_resumed_stream_gives_the_same_rows(
    prepared: Prepare, tmp_path: Path, packing: bool, shuffle: bool, kind: str
) -> None:
    path = texts(tmp_path / "d.jsonl")
    if kind == "jsonl.gz":
        path = gzipped(path)
    if kind == "folder":
        path = tmp_path / "folder"
        path.mkdir()
        for part in range(3):
            texts(path / f"{part}.jsonl", 50, f"part{part}")
    job = {"packing": packing, "shuffle": shuffle}
    rows = taken(table(prepared, path, **job), 0, 120)
    for at in (0, 1, 33, 64, 119):
        first = table(prepared, path, **job)
        assert taken(first, 0, at) == rows[:at]
        state = json.loads(json.dumps(first.state_dict()))
        second = table(prepared, path, **job)
        second.load_state_dict(state)
        assert taken(second, at, 120) == rows[at:]


def test_rows_fetched_ahead_are_given_again(prepared: Prepare, tmp_path: Path) -> None:
    path = texts(tmp_path / "d.jsonl")
    found = table(prepared, path)
    rows = taken(found, 0, 90)
    state = found.state_dict()
    again = table(prepared, path)
    again.load_state_dict(state)
    assert taken(again, 40, 90) == rows[40:]


def test_resuming_does_not_read_what_came_before(prepared: Prepare, tmp_path: Path) -> None:
    path = texts(tmp_path / "d.jsonl", 400)
    first = table(prepared, path, shuffle=False)
    rows = taken(first, 0, 300)
    state = first.state_dict()
    size = path.stat().st_size
    second = table(prepared, path, shuffle=False)
    # Data before the last windows is made unreadable: a resumed stream must not read it.
    content = path.read_bytes()
    path.write_bytes(b"#" * 2_000 + content[2_000:])
    assert path.stat().st_size == size
    second.load_state_dict(state)
    assert taken(second, 299, 300) == rows[299:]


def test_every_row_comes_up_once_an_epoch(prepared: Prepare, tmp_path: Path) -> None:
    found = table(prepared, texts(tmp_path / "d.jsonl", 64), max_length=256)
    counts = Counter(id_ for i in range(128) for id_ in found[i]["ids"])
    assert counts == {f"d.jsonl:{i}": 2 for i in range(1, 65)}
    first, second = ([found_[i]["ids"][0] for i in r] for found_, r in (
        (table(prepared, tmp_path / "d.jsonl", max_length=256), range(64)),
        (found, range(64, 128)),
    ))  # fmt: skip
    assert first != second and sorted(first) == sorted(second)


def test_packing_in_windows_keeps_documents_whole(prepared: Prepare, tmp_path: Path) -> None:
    path = texts(tmp_path / "d.jsonl", 64)
    plain = table(prepared, path, max_length=256)
    packed = table(prepared, path, max_length=256, packing=True)
    documents = {plain[i]["ids"][0]: plain[i]["input_ids"] for i in range(64)}
    seen = 0
    index = 0
    while seen < 64:
        row = packed[index]
        index += 1
        at = 0
        for id_, length in zip(row["ids"], row["seq_lengths"], strict=True):
            assert row["input_ids"][at : at + length] == documents[id_]
            assert row["labels"][at] == -100
            at += length
            seen += 1
        assert at == len(row["input_ids"]) <= 256


def test_weights_and_replay(prepared: Prepare, tmp_path: Path) -> None:
    a, b = texts(tmp_path / "a.jsonl", 90, "a"), texts(tmp_path / "b.jsonl", 90, "b")
    general = texts(tmp_path / "general.jsonl", 50, "general")
    found = table(
        prepared,
        [{"source": str(a), "weight": 3}, str(b)],
        replay={"source": str(general), "share": "20%"},
    )
    rows = taken(found, 0, 600)
    names = Counter(row["ids"][0].split(".")[0] for row in rows)
    assert abs(names["a"] / names["b"] - 3) < 0.2
    tokens = Counter[str]()
    for row in rows:
        tokens[row["ids"][0].split(".")[0]] += len(row["input_ids"])
    assert abs(tokens["general"] / tokens.total() - 0.2) < 0.02
    state = found.state_dict()
    again = table(
        prepared,
        [{"source": str(a), "weight": 3}, str(b)],
        replay={"source": str(general), "share": "20%"},
    )
    again.load_state_dict(state)
    assert taken(again, 590, 600) == rows[590:]


def test_what_is_left_out_is_listed_once(tmp_path: Path, llama: PreTrainedTokenizerFast) -> None:
    path = texts(tmp_path / "d.jsonl", 40)
    path.write_text(path.read_text() + '{"text": " "}\nnot json\n')
    job = make_job(path, method="pretrain", max_length=64, streaming=True, on_error="skip")
    result = prepare(job, llama, cache_dir=tmp_path / "c", run_dir=tmp_path / "r")
    found = result.train
    assert isinstance(found, StreamTable)
    taken(found, 0, 60)
    assert (found.num_dropped, found.num_skipped) == (1, 1)
    assert len((tmp_path / "r" / "dropped.jsonl").read_text().splitlines()) == 1
    assert len((tmp_path / "r" / "skipped.jsonl").read_text().splitlines()) == 1
    assert "streamed" in result.report.summary()[0]
    assert result.report.mask_preview


def test_bad_rows_stop_the_stream(prepared: Prepare, tmp_path: Path) -> None:
    path = texts(tmp_path / "d.jsonl", 40)
    path.write_text(path.read_text() + "not json\n")
    found = table(prepared, path)
    with pytest.raises(DataError, match=r"d\.jsonl:41: not JSON"):
        taken(found, 0, 60)


def test_nothing_to_learn_is_found_before_training(prepared: Prepare, tmp_path: Path) -> None:
    rows = [{"prompt": "the cat sat " * 40, "completion": "yes"}] * 50
    with pytest.raises(DataError, match=r"none of the 32 rows from d\.jsonl:1 on"):
        prepared(write_jsonl(tmp_path / "d.jsonl", rows), streaming=True, max_length=16)
    (tmp_path / "e.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no rows in it"):
        prepared(tmp_path / "e.jsonl", streaming=True)


def test_a_stream_does_not_resume_with_another_file(prepared: Prepare, tmp_path: Path) -> None:
    path = texts(tmp_path / "d.jsonl")
    state = table(prepared, path).state_dict()
    texts(path, 151)
    with pytest.raises(DataError, match="not what the checkpoint was reading"):
        table(prepared, path).load_state_dict(state)


def test_the_next_window_is_read_while_this_one_is_trained_on(
    prepared: Prepare, tmp_path: Path
) -> None:
    path = texts(tmp_path / "d.jsonl", 64)
    rows = taken(table(prepared, path), 0, 64)
    found = table(prepared, path)
    assert found._next_window is not None
    found._next_window.result(timeout=30)
    # The second window is in memory: what becomes of the file does not matter to it.
    path.write_bytes(b"#" * path.stat().st_size)
    assert taken(found, 0, 64) == rows


def test_the_past_is_gone(prepared: Prepare, tmp_path: Path) -> None:
    found = table(prepared, texts(tmp_path / "d.jsonl"))
    taken(found, 0, 1200)
    with pytest.raises(IndexError, match="moved on"):
        found[0]
