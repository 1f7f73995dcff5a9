"""Exchange with Label Studio: what was chosen there is what is read here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from feedback.readers import read_labels
from feedback.review.command import export_tasks, import_export
from feedback.review.label_file import REASONS
from tests.run_commands import read_jsonl
from training.errors import DataError


def annotation(person: Any, *values: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """Return an annotation as an export has it (https://labelstud.io/guide/export)."""
    result = []
    for value in values:
        kind = "choices" if "choices" in value else "textarea" if "text" in value else "pairwise"
        name = {"choices": "verdict", "textarea": "comment", "pairwise": "preference"}[kind]
        if set(value.get("choices", ())) & set(REASONS):
            name = "reasons"
        to = "left,right" if kind == "pairwise" else "prompt"
        result.append({"value": value, "from_name": name, "to_name": to, "type": kind})
    return {"id": 1, "completed_by": person, "result": result, "lead_time": 12.5, **extra}


@pytest.fixture
def tasks(tmp_path: Path) -> list[dict[str, Any]]:
    lines = [
        {"prompt": f"Q{n}", "answer_a": f"good {n}", "answer_b": f"poor {n}"} for n in range(40)
    ]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert export_tasks(pairs, tmp_path / "tasks.json") == 0
    made: list[dict[str, Any]] = json.loads((tmp_path / "tasks.json").read_text())
    return made


def test_choices_survive_the_round_trip(tmp_path: Path, tasks: list[dict[str, Any]]) -> None:
    assert {task["data"]["left_is"] for task in tasks} == {"a", "b"}
    assert 'toName="left,right"' in (tmp_path / "tasks.xml").read_text()
    for number, task in enumerate(tasks):
        side = "left" if "good" in task["data"]["left"] else "right"
        task["annotations"] = [
            annotation({"id": 4, "email": "ada@example.org"}, {"selected": side})
        ]
        if number == 0:
            task["annotations"].append(annotation(7, {"choices": ["tie"]}))
            task["annotations"].append(annotation(8, {"choices": ["cannot judge"]}))
            task["annotations"].append(annotation(9, {"selected": "left"}, was_cancelled=True))
    export, out = tmp_path / "export.json", tmp_path / "labels.jsonl"
    export.write_text(json.dumps(tasks))
    assert import_export(export, out) == 0
    assert import_export(export, out) == 0  # nothing twice
    lines = read_jsonl(out)
    assert len(lines) == 42
    assert {line["choice"] for line in lines if line["annotator"] == "ada@example.org"} == {"a"}
    assert [(line["annotator"], line["choice"]) for line in lines if line["annotator"] in "78"] == [
        ("7", "tie"),
        ("8", ""),
    ]
    labels = read_labels([out])
    assert len(labels.labels) == 41 and len(labels.unlabelled) == 1
    assert {label.first.split()[0] for label in labels.labels} == {"good", "poor"}


def test_reasons_and_comments_survive_the_round_trip(
    tmp_path: Path, tasks: list[dict[str, Any]]
) -> None:
    config = (tmp_path / "tasks.xml").read_text()
    assert all(f'<Choice value="{reason}"/>' in config for reason in REASONS)
    tasks[0]["annotations"] = [
        annotation(
            3, {"selected": "left"}, {"choices": ["correct", "clear"]}, {"text": ["no sources"]}
        ),
        annotation(4, {"choices": ["tie"]}, {"selected": "right"}),
        annotation(5, {"selected": "right"}, {"choices": ["tie"]}),
    ]
    export, out = tmp_path / "export.json", tmp_path / "labels.jsonl"
    export.write_text(json.dumps(tasks[:1]))
    assert import_export(export, out) == 0
    first, *ties = read_jsonl(out)
    assert first["choice"] == tasks[0]["data"]["left_is"] == first["shown_first"]
    assert (first["reasons"], first["comment"]) == (["correct", "clear"], "no sources")
    assert [line["choice"] for line in ties] == ["tie", "tie"]


def test_what_is_no_export_is_refused_with_every_fault(
    tmp_path: Path, tasks: list[dict[str, Any]]
) -> None:
    export = tmp_path / "export.json"
    export.write_text(json.dumps({"not": "a list"}))
    with pytest.raises(DataError, match="is no export of Label Studio"):
        import_export(export, tmp_path / "labels.jsonl")
    tasks[0]["annotations"] = [annotation(1, {"rating": 3})]
    del tasks[1]["data"]["left_is"]
    export.write_text(json.dumps(tasks[:2]))
    with pytest.raises(DataError, match="2 tasks cannot be used"):
        import_export(export, tmp_path / "labels.jsonl")
    assert not (tmp_path / "labels.jsonl").exists()


def test_pairs_that_cannot_be_judged_are_refused_with_their_lines(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        '{"prompt": "a", "answer_a": "x", "answer_b": "x"}\nnot json\n'
        '{"prompt": "a", "answer_a": "x"}\n{"prompt": "a", "answer_a": "x", "answer_b": "y", '
        '"gold": "left"}\n'
    )
    with pytest.raises(DataError) as raised:
        export_tasks(pairs, tmp_path / "tasks.json")
    for line in ("line 1: answer_a and answer_b are equal", "line 2:", "line 3: answer_b missing"):
        assert line in str(raised.value)
    assert "line 4: gold is 'left'" in str(raised.value)
