"""The report of a preparation by the groups of a column, with intervals and warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from scipy import stats

from preparation.build import build
from preparation.command import summary_lines
from preparation.config.load import parse_preparation
from preparation.plan import plan
from preparation.report.groups import group_shares
from preparation.report.page import render_page
from safety.binomial import Proportion, fisher_greater
from training.errors import DataError, JobError

ANSWER = "The clerk in the office on the second floor will see to it, number {}."
STEPS = [{"step": "quality", "rules": ["answers"], "min_answer_words": 4}]


def prepare(
    folder: Path, rows: list[Any], by: Any, *, unit_bytes: int | None = None, **settings: Any
) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    document = {
        "name": "talk",
        "prepare": {
            "sources": str(path), "report": {"by": by}, "output": str(folder / "out"), "workers": 1,
            "steps": STEPS, **settings,
        },
    }  # fmt: skip
    return Path(build(plan(parse_preparation(document, "job.yaml"), unit_bytes), lambda *_: None))


def dialogues() -> list[dict[str, Any]]:
    """Return rows of two dialects and some without one; the short answers of one are dropped."""
    rows = []
    for number in range(240):
        dialect = ("north", "south", None)[min(number % 5 // 2, 2)]
        short = number % (3 if dialect == "south" else 20) == 0
        rows.append(
            {"prompt": f"Question {number}?", "completion": "Aye." if short else ANSWER}
            | ({"dialect": dialect} if dialect else {})
        )
        rows[-1]["completion"] = rows[-1]["completion"].format(number)
    return rows


def report_of(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text())


def test_a_rule_that_drops_more_of_one_group_is_reported_with_its_interval(tmp_path: Path) -> None:
    rows = dialogues()
    folder = prepare(tmp_path, rows, "dialect", unit_bytes=4_000)
    report = report_of(folder)
    reason = "answer_has_too_few_words"
    shares = {
        share["group"]: share
        for share in report["groups"]
        if (share["step"], share["reason"]) == ("quality", reason)
    }
    for group in ("north", "south", None):
        own = [row for row in rows if row.get("dialect") == group]
        dropped = sum(row["completion"] == "Aye." for row in own)
        share = shares[group or "not stated"]
        interval = stats.binomtest(dropped, len(own)).proportion_ci(method="wilson")
        assert (share["rows"], share["dropped"]) == (len(own), dropped)
        assert share["interval"] == pytest.approx([interval.low, interval.high], abs=1e-5)
    assert [group for group, share in shares.items() if share["warned"]] == ["south"]
    assert shares["south"]["examples"][0]["text"].endswith("⏎ Aye.")
    [warning] = [line for line in report["warnings"] if reason.replace("_", " ") in line]
    assert warning.startswith("dialect south: quality") and "would reject" in warning
    assert any(warning in line for line in summary_lines(report))
    page = render_page(report)
    assert "By dialect" in page and "south ▲" in page and "north ▲" not in page
    columns = {name for path in folder.rglob("*.parquet") for name in pq.read_schema(path).names}
    assert "dialect" not in columns


def test_later_passes_count_the_groups_of_rows_that_reach_them(tmp_path: Path) -> None:
    rows = [row for row in dialogues() if row["completion"] != "Aye."]
    copies = [dict(row) for row in rows if row.get("dialect") == "south"][:30]
    steps = [{**STEPS[0], "action": "drop"}, {"step": "duplicates", "action": "drop"}]
    folder = prepare(
        tmp_path, [*dialogues(), *copies], ["dialect", "row_source"], steps=steps, unit_bytes=4_000
    )
    report = report_of(folder)
    exact = {
        share["group"]: (share["rows"], share["dropped"])
        for share in report["groups"]
        if (share["step"], share["reason"], share["column"]) == ("duplicates", "exact", "dialect")
    }
    reached = [*rows, *copies]
    assert exact["south"] == (sum(row.get("dialect") == "south" for row in reached), 30)
    assert exact["north"] == (sum(row.get("dialect") == "north" for row in reached), 0)
    assert [share for share in report["groups"] if share["column"] == "row_source"] == []


def test_records_that_cannot_be_read_count_for_their_group(tmp_path: Path) -> None:
    rows = [*dialogues(), *({"completion": "", "dialect": "north"} for _ in range(5))]
    shares = report_of(prepare(tmp_path, rows, ["dialect"]))["groups"]
    [share] = [s for s in shares if s["step"] == "read" and s["group"] == "north"]
    assert (share["rows"], share["dropped"]) == (96 + 5, 5)


def test_a_column_that_no_record_has_is_an_error_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'dialekt'\. Columns: completion, dialect, prompt"):
        prepare(tmp_path, dialogues(), ["dialekt"])
    with pytest.raises(JobError, match="named twice"):
        prepare(tmp_path, dialogues(), ["dialect", "dialect"])


def test_the_name_of_a_group_is_hidden_if_a_step_finds_personal_data(tmp_path: Path) -> None:
    rows = [row | {"dialect": "m.weber@example.org"} for row in dialogues()[:40]]
    steps = [*STEPS, {"step": "personal_data", "kinds": ["email"]}]
    folder = prepare(tmp_path, [*rows, *dialogues()[40:80]], "dialect", steps=steps)
    groups = {share["group"] for share in report_of(folder)["groups"]}
    assert "⟨email⟩" in groups
    assert not any(b"m.weber" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_the_name_of_a_source_is_shown_as_in_the_list_of_sources(tmp_path: Path) -> None:
    other = tmp_path / "for m.weber@example.org.jsonl"
    other.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in dialogues()[:40]))
    sources = [str(tmp_path / "rows.jsonl"), str(other)]
    steps = [*STEPS, {"step": "personal_data", "kinds": ["email"]}]
    folder = prepare(tmp_path, dialogues()[40:80], "row_source", steps=steps, sources=sources)
    names = {source["label"] for source in report_of(folder)["sources"]}
    assert {share["group"] for share in report_of(folder)["groups"]} == names
    assert other.name in names


def test_the_exact_test_agrees_with_scipy() -> None:
    for group, rest in (((3, 10), (4, 60)), ((0, 5), (3, 40)), ((120, 400), (900, 4000))):
        own, others = Proportion(*group), Proportion(*rest)
        table = [[own.count, own.of - own.count], [others.count, others.of - others.count]]
        expected = stats.fisher_exact(table, alternative="greater").pvalue
        assert fisher_greater(own, others) == pytest.approx(expected, rel=1e-6)


def test_groups_that_lose_alike_give_no_warning() -> None:
    counts = {"quality": {"dialect": {
        name: {"rows": 10_000, "dropped": dropped, "reasons": {"short": dropped}, "examples": {}}
        for name, dropped in (("a", 3_000), ("b", 3_020), ("c", 3_150))
    }}}  # fmt: skip
    shares = group_shares(counts)
    assert [share.warned for share in shares] == [False] * 3
    assert min(share.p for share in shares) < 0.05, "significant, but by less than a fifth"
