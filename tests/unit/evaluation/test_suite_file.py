"""Suite files and the items of their tasks: mistakes are named, all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.config.suite import load_suite, task_digest
from evaluation.config.templates import TemplateError, evaluate, render
from evaluation.items import Item, read_items
from training.errors import DataError, JobError

CHOICE = {
    "name": "quiz", "kind": "multiple_choice", "data": "quiz.jsonl", "prompt": "{{q}}\nAnswer:",
    "choices": "options", "target": "right",
}  # fmt: skip
ROWS = [
    {"q": "1+1", "options": ["1", "2"], "right": 1, "topic": "sums"},
    {"q": "2+2", "options": ["4", "5"], "right": "A", "topic": "sums"},
    {"q": "sky", "options": ["blue", "red"], "right": "blue", "topic": "colors"},
]


def written(folder: Path, *tasks: dict[str, Any], rows: list[Any] | None = None) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in (ROWS if rows is None else rows))
    (folder / "quiz.jsonl").write_text(text)
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"suite": "demo", "tasks": list(tasks) or [CHOICE]}))
    return path


def items(folder: Path, rows: list[Any] | None = None, **changes: Any) -> list[Item]:
    (task,) = load_suite(written(folder, {**CHOICE, **changes}, rows=rows)).tasks
    return read_items(task)


def test_choices_are_found_by_index_letter_and_text(tmp_path: Path) -> None:
    found = items(tmp_path, group="topic")
    assert [item.right for item in found] == [1, 0, 0]
    assert found[0].prompt == "1+1\nAnswer:"
    assert found[0].choices == (" 1", " 2")
    assert [item.group for item in found] == ["sums", "sums", "colors"]
    assert [item.id for item in found] == ["1", "2", "3"]


def test_examples_precede_the_prompt(tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_text(json.dumps({"q": "3", "options": ["x", "y"], "right": 0}))
    few_shot = {"count": 1, "data": "dev.jsonl"}
    found = items(tmp_path, few_shot=few_shot, description="Choose. ")
    assert found[0].prompt == "Choose. 3\nAnswer: x\n\n1+1\nAnswer:"
    chat = items(tmp_path, few_shot=few_shot, description="Choose.", chat=True)
    assert [message["role"] for message in chat[0].prompt] == [
        "system", "user", "assistant", "user",
    ]  # fmt: skip


def test_an_example_that_is_an_item_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 of .*quiz\.jsonl is also an example"):
        items(tmp_path, few_shot={"count": 1, "data": "quiz.jsonl"})


def test_every_problem_of_a_suite_is_named(tmp_path: Path) -> None:
    generation = {
        "name": "quiz", "kind": "generation", "data": "none.jsonl", "prompt": "{{q}}",
        "scores": [{"kind": "exact_match"}, {"kind": "exact_match"}], "samples": 2,
    }  # fmt: skip
    with pytest.raises(JobError) as error:
        load_suite(written(tmp_path, CHOICE, generation))
    text = str(error.value)
    for part in (
        "5 problems", "two tasks share a name (got quiz)", "there is no such file (got none.jsonl)",
        "exact_match, exact_match compare with a target", "would have the same metrics",
        "greedy decoding gives the same answer each time (got 2)",
    ):  # fmt: skip
        assert part in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "{{q"}, "not a Jinja template"),
        ({"kind": "essay"}, "kind"),
        ({"prommpt": "x"}, "prompt"),
        ({"name": "a b"}, "name"),
        ({"prompt": 3}, "write a template as text"),
    ],
)
def test_a_mistake_in_a_task_is_named(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(JobError, match=message):
        load_suite(written(tmp_path, {**CHOICE, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "{{question}}"}, r"3 of 3 rows [^\0]*'question' is undefined\. The columns"),
        ({"target": "topic"}, "target 'sums' is neither index, letter nor text"),
        ({"choices": "q"}, "choices is '1\\+1': a list of two or more is needed"),
        ({"id": "topic"}, "two items have the id 'sums'"),
        ({"group": "subject"}, "there is no column 'subject'"),
        ({"data": {"path": "quiz.jsonl", "where": {"topic": "law"}}}, "has no rows with"),
        ({"few_shot": {"count": 9, "data": "quiz.jsonl"}}, "few_shot.count is 9"),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        items(tmp_path, **changes)


def test_a_file_without_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"quiz\.jsonl"):
        items(tmp_path, rows=[])


def test_a_sample_of_rows_is_reproducible(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "q": str(number)} for number in range(50)]
    data = {"path": "quiz.jsonl", "rows": 5, "seed": 1}
    sampled = [item.fields["q"] for item in items(tmp_path, rows, data=data)]
    assert sampled == [item.fields["q"] for item in items(tmp_path, rows, data=data)]
    assert sampled != ["0", "1", "2", "3", "4"]
    first = items(tmp_path, rows, data={"path": "quiz.jsonl", "rows": 5})
    assert [item.fields["q"] for item in first] == ["0", "1", "2", "3", "4"]


def test_the_digest_covers_templates_and_items_and_no_path(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()

    def digest(folder: Path, rows: list[Any] | None = None, **changes: Any) -> str:
        (task,) = load_suite(written(folder, {**CHOICE, **changes}, rows=rows)).tasks
        return task_digest(task, [item.to_json() for item in read_items(task)])

    same = digest(tmp_path)
    assert digest(tmp_path / "elsewhere") == same
    assert digest(tmp_path, prompt="{{q}} =") != same
    assert digest(tmp_path, rows=ROWS[:2]) != same


def test_templates_are_sandboxed_and_keep_values() -> None:
    assert evaluate("{{ a + 1 }}", {"a": 1}) == 2
    assert evaluate("a", {"a": [1]}) == [1]
    assert render("x {{a}}\n", {"a": 1}) == "x 1\n"
    with pytest.raises(TemplateError):
        render("{{ a.__class__.__mro__ }}", {"a": 1})
