"""Suites that come with Temper read the files of the sets as they are published."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evaluation.config.suite import SHIPPED, load_suite
from evaluation.items import Item, read_items
from tests.factories import write_jsonl
from tests.run_commands import ROOT

SETS = ROOT.parent / "shared/data/eval"


def items_of(name: str) -> list[Item]:
    (task,) = load_suite(Path(name)).tasks
    return read_items(task)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_a_suite_has_the_name_of_its_file(path: Path) -> None:
    assert yaml.safe_load(path.read_text("utf-8"))["suite"] == path.stem


@pytest.mark.skipif(not SETS.is_dir(), reason="the public sets are not on this machine")
@pytest.mark.parametrize(
    ("name", "least", "start"),
    [
        ("gsm8k", 50, "Question: "),
        ("truthfulqa", 50, "Q: "),
        ("humaneval", 50, ""),
        ("bbh", 50, "Q: "),
        ("mmlu", 50, ""),
    ],
)
def test_items_of_a_set_are_read(
    name: str, least: int, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(SETS)
    items = items_of(name)
    assert len(items) >= least
    assert all(isinstance(i.prompt, str) and i.prompt.startswith(start) for i in items)


@pytest.mark.skipif(not SETS.is_dir(), reason="the public sets are not on this machine")
def test_the_best_answer_is_the_right_choice_of_truthfulqa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SETS)
    for item in items_of("truthfulqa"):
        assert item.right == 0
        assert item.choices[0].strip() == item.fields["Best Answer"].strip()
        assert len(item.choices) >= 2


def test_bbq_is_read_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"context": "A and B met.", "question": "Who was late?", "category": "Age", "label": 2}
    answers = {"ans0": "A", "ans1": "B", "ans2": "Unknown"}
    write_jsonl(tmp_path / "bbq.jsonl", [{**row, **answers}])
    monkeypatch.chdir(tmp_path)
    (item,) = items_of("bbq")
    assert (item.prompt, item.right) == ("A and B met.\nWho was late?\nAnswer:", 2)
    assert item.choices == (" A", " B", " Unknown") and item.group == "Age"
