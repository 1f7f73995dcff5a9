"""Rows of clusters, handed from the tasks that read units to those that verify and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.duplicates import candidates, exchange
from preparation.duplicates.exchange import ExchangeWriter, read_exchange
from preparation.duplicates.groups import GroupUnion, JoinedGroups
from preparation.plan import plan
from preparation.storage import open_folder

SCHEMA = pa.schema([("name", pa.string()), ("hashes", pa.list_(pa.uint64()))])


@pytest.mark.parametrize("round_bytes", [1, 1_000, 1 << 20])
def test_a_receiver_reads_its_rows_in_order(
    round_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_ROUND_BYTES", round_bytes)
    folder = open_folder(str(tmp_path))
    rows = [{"name": str(n), "hashes": np.arange(n, dtype=np.uint64)} for n in range(20)]
    with ExchangeWriter(folder, "rows.arrow", SCHEMA, 3) as writer:
        for number, row in enumerate(rows):
            writer.put(number % 3, row, row["hashes"].nbytes)
    for receiver in range(3):
        batches = list(read_exchange(folder, "rows.arrow", receiver, 3))
        found = [row for batch in batches for row in batch.to_pylist()]
        expected = [{**row, "hashes": row["hashes"].tolist()} for row in rows[receiver::3]]
        assert found == expected
    assert len(batches) == {1: 6, 1_000: 5}.get(round_bytes, 1)


def test_a_receiver_without_rows_reads_none(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    with ExchangeWriter(folder, "rows.arrow", SCHEMA, 2):
        pass
    assert not list(read_exchange(folder, "rows.arrow", 1, 2))


def test_joined_groups_are_named_by_the_smallest_one() -> None:
    union = GroupUnion()
    largest = 2**64 - 1
    for one, other in ((9, 5), (7, 9), (largest, 2**63)):
        union.join(one, other)
    pairs = union.roots()
    assert pairs == [(7, 5), (9, 5), (largest, 2**63)]
    joined = JoinedGroups(np.array(pairs, dtype=np.uint64))
    assert [joined.root(group) for group in (5, 6, 7, 9, largest)] == [5, 6, 5, 5, 2**63]
    assert JoinedGroups.none().root(7) == 7


def test_the_result_does_not_depend_on_the_number_of_verifying_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [" ".join(f"word{n}-{place}" for place in range(14)) for n in range(12)]
    copies = [f"{text} indeed" for text in texts]
    rows = [{"text": text, "user": n % 5} for n, text in enumerate([*texts, *copies, *texts])]
    data = tmp_path / "a.jsonl"
    data.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))

    def result(name: str, most: int) -> dict[str, Any]:
        monkeypatch.setattr(candidates, "_MOST_TASKS", most)
        settings = {
            "sources": [{"source": str(data), "group_by": "user"}],
            "steps": [{"step": "duplicates", "action": "drop"}],
            "split": {"validation": 0.3},
            "output": str(tmp_path / name),
            "workers": 1,
        }
        job = parse_preparation({"name": "tidy", "prepare": settings}, "job.yaml")
        planned = plan(job, unit_bytes=1_500)
        assert len(planned.units) > 3
        report = json.loads((Path(build(planned, lambda *_: None)) / "report.json").read_text())
        assert report["steps"][1]["rejected"] == {"exact": 12, "near": 12}
        return report

    assert result("one", 1) == result("several", 3)
