"""Kinds of synthesis: their rows, and the drafts that each rejects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preparation.synthesis.from_documents import is_quoted
from preparation.synthesis.run import synthesize
from tests.unit.preparation.synthesis.teachers import FakeTeacher, numbers, rows_of
from training.config.data import Source
from training.data.readers.records import BadRecord
from training.data.readers.sources import locate
from training.data.schema.rows import CompletionRow, DialogueRow
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError

KINDS = ("self_instruct", "from_documents", "paraphrase", "evolve")


def rejected(folder: Path) -> dict[str, int]:
    return dict(json.loads((folder / "synthesis.json").read_text())["rejected"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["messages", "prompt_completion"])
def test_rows_are_read_as_training_data(
    teacher: FakeTeacher, tmp_path: Path, kind: str, shape: str
) -> None:
    section = teacher.section(tmp_path, kind, writes=shape)
    path = synthesize(section, tmp_path / "out")
    source = Source(source=str(path.parent))
    reader = SchemaReader(source, "dialogue")
    records = [record for _, record in locate(source).records()]
    rows = [reader.read(record) for record in records if not isinstance(record, BadRecord)]
    assert len(rows) == 4
    assert {type(row) for row in rows} == {DialogueRow if shape == "messages" else CompletionRow}
    for row in rows_of(path):
        assert row["synthesized_by"] == "teacher-1" and row["group"] and row["id"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_depends_on_replies_and_seed_alone(
    teacher: FakeTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    texts = []
    for seed, concurrency in ((1, 1), (1, 8), (2, 8)):
        folder = tmp_path / f"{seed}-{concurrency}"
        monkeypatch.setenv("TEMPER_CACHE", str(folder / "cache"))
        section = teacher.section(tmp_path, kind, seed=seed, teacher={"concurrency": concurrency})
        texts.append(synthesize(section, folder).read_text())
    assert texts[0] == texts[1] != texts[2]


def test_self_instruct_shows_seeds_and_rejects_similar_tasks(
    teacher: FakeTeacher, tmp_path: Path
) -> None:
    teacher.replies["new tasks of the same kind"] = (
        "<task>How many bolts of type 3 fit into box 4?</task><task>too short</task>"
        "<task>Draw a picture of three boxes and bolts</task>"
        "<task>Name five towns by a river</task>"
        "<task>Name five towns by a lake</task><task>cut off"
    )
    path = synthesize(teacher.section(tmp_path, "self_instruct", rows=3), tmp_path / "out")
    assert [row["messages"][0]["content"] for row in rows_of(path)] == [
        "Name five towns by a river"
    ]
    counts = rejected(tmp_path / "out")
    # Three more rounds add nothing, and end it; 5/6 of the words of the two towns are the same.
    assert counts == {"too_similar": 11, "length": 4, "not_text": 4}
    request = next(iter(teacher.questions))
    assert request.count("<task>How many bolts") == 8


def test_self_instruct_shows_new_tasks_once_there_are_some(
    teacher: FakeTeacher, tmp_path: Path
) -> None:
    section = teacher.section(
        tmp_path, "self_instruct", rows=6, tasks_per_request=3, requests_per_round=1
    )
    synthesize(section, tmp_path / "out")
    requests = [text for text in teacher.questions if "new tasks of the same kind" in text]
    assert requests[0].count("<task>How many bolts") == 8
    assert requests[1].count("<task>How many bolts") == 6
    assert (
        "<task>alpha beta gamma delta" in requests[1]
        or "<task>iota" in requests[1]
        or ("<task>epsilon" in requests[1])
    )


def test_too_few_seeds_are_an_error(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "self_instruct")
    path = Path(section.seeds.source)
    path.write_text("\n".join(path.read_text().splitlines()[:3]) + "\n")
    with pytest.raises(DataError, match="3 different seed tasks, and a request shows 6"):
        synthesize(section, tmp_path / "out")
    assert not teacher.questions


def test_answers_from_documents_are_quoted(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "from_documents", rows=6)
    rows = rows_of(synthesize(section, tmp_path / "out"))
    text = (tmp_path / "guide.txt").read_text()
    for row in rows:
        document, span = row["passage_id"].split("#")
        start, end = map(int, span.split("-"))
        assert row["quote"] in text[start:end]
        assert row["group"] == document
    # Each reply has one item of three whose quotation is made up.
    assert rejected(tmp_path / "out")["quote_not_in_passage"] >= 3
    assert {row["messages"][0]["content"].split()[1] for row in rows} == {"0", "2"}


def test_prompts_can_begin_with_their_passage(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "from_documents", include_passage=True)
    for row in rows_of(synthesize(section, tmp_path / "out")):
        assert row["messages"][0]["content"].startswith("Pump")


@pytest.mark.parametrize(
    ("quote", "expected"),
    [
        ("The pump\nhas  a valve", True),
        ("“The pump has a valve.”", True),
        ("has an ‘outer’ ring", True),
        ("the pump has a valve", False),
        ("The pump has two valves", False),
        ("The pump", False),
        ("", False),
        ("泵有一个阀门", True),
        ("泵有两个阀门", False),
    ],
)
def test_quotations_are_compared_word_for_word(quote: str, expected: bool) -> None:
    passage = "The pump has a\nvalve. It has an 'outer' ring. 泵有一个阀门。"
    assert is_quoted(quote, passage) is expected


def test_paraphrases_keep_answers_and_numbers(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "paraphrase")
    originals = {row["prompt"]: row for row in rows_of(tmp_path / "tasks.jsonl")}
    for row in rows_of(synthesize(section, tmp_path / "out")):
        prompt, answer = (message["content"] for message in row["messages"])
        original = originals[prompt.removeprefix("Please could you kindly tell me: ")]
        assert original["completion"] == answer
        assert row["paraphrase_of"].startswith("tasks.jsonl:")
    # The second paraphrase repeats the message.
    assert rejected(tmp_path / "out") == {"too_similar": 4}
    teacher.replies["<message>"] = "<paraphrase>How many of them fit into box 99?</paraphrase>"
    other = teacher.section(tmp_path, "paraphrase", seed=3, teacher={"model": "teacher-2"})
    with pytest.raises(DataError, match=r"no row was accepted \(changed_numbers 8\)"):
        synthesize(other, tmp_path / "other")


def test_paraphrases_can_be_answered_by_the_teacher(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "paraphrase", answers="teacher", system="Be brief.")
    for row in rows_of(synthesize(section, tmp_path / "out")):
        prompt, answer = (message["content"] for message in row["messages"])
        assert answer == f"An answer to: {prompt}"
    systems = [
        body["messages"][0]["content"]
        for _, _, body in teacher.server.calls
        if body["messages"][0]["role"] == "system"
    ]
    assert systems == ["Be brief."] * 4


def test_prompts_evolve_over_rounds(teacher: FakeTeacher, tmp_path: Path) -> None:
    section = teacher.section(tmp_path, "evolve", rows=20, rounds=3)
    rows = rows_of(synthesize(section, tmp_path / "out"))
    by_round = [[row for row in rows if row["round"] == number] for number in (1, 2, 3)]
    assert [len(rows) for rows in by_round] == [8, 8, 4]
    for number, group in enumerate(by_round, start=1):
        for row in group:
            prompt = row["messages"][0]["content"]
            assert prompt.count("Explain each step.") == number
            assert numbers(prompt) and row["evolved_from"] == row["group"]
    assert len({row["operation"] for row in rows}) > 2


@pytest.mark.parametrize(
    ("part", "reply", "reason"),
    [
        ("SAME or DIFFERENT", "SAME", "no_information_gain"),
        ("<original>", "<task>The new prompt is this</task>", "copied_from_request"),
        ("<original>", "I have no idea", "unusable_reply"),
        ("Explain each step.", "Sorry, I cannot help with that.", "refusal"),
        ("Explain each step.", "... the, and of it!", "answer_without_content"),
        ("Explain each step.", "", "empty_answer"),
    ],
)
def test_evolve_eliminates(
    teacher: FakeTeacher, tmp_path: Path, part: str, reply: str, reason: str
) -> None:
    section = teacher.section(tmp_path, "evolve", rows=2, rounds=1)
    # Comparisons contain the new prompt too; they are answered first.
    teacher.replies = {"SAME or DIFFERENT": "DIFFERENT"} | {part: reply}
    with pytest.raises(DataError, match=rf"no row was accepted \({reason} 2\)"):
        synthesize(section, tmp_path / "out")


def test_truncated_answers_are_rejected(teacher: FakeTeacher, tmp_path: Path) -> None:
    def reason(messages: list[dict[str, Any]]) -> str:
        return "length" if messages[-1]["content"].endswith("step.") else "stop"

    teacher.server.finish_reason = reason
    section = teacher.section(tmp_path, "evolve", rows=2, rounds=1)
    with pytest.raises(DataError, match=r"truncated_answer 2"):
        synthesize(section, tmp_path / "out")
