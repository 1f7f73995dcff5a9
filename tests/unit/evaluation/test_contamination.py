"""Items that stand in the training data are found; items that only resemble it are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation.contamination import (
    ItemIndex,
    SearchedItem,
    normalized_words,
    search_training_data,
)

_LONG = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in "
    "May. How many clips did Natalia sell altogether in April and May?"
)
_OTHER = "Weng earns 12 dollars an hour for babysitting. Yesterday she did 50 minutes of it."


def _found(items: Sequence[SearchedItem], rows: Sequence[Sequence[str]]) -> dict[int, str]:
    index = ItemIndex(items)
    for number, texts in enumerate(rows):
        index.search(f"train.jsonl:{number + 1}", texts)
    return index.found


def test_a_planted_item_is_found_with_its_row() -> None:
    rows = [["Something else entirely."], [f"Q: {_LONG.upper()}!!", "A: 72"]]
    assert _found([SearchedItem(_OTHER), SearchedItem(_LONG, "72")], rows) == {1: "train.jsonl:2"}


def test_an_edited_item_is_found_and_half_of_it_decides() -> None:
    words = _LONG.split()
    edited = " ".join([*words[:3], "badges", *words[4:]])
    assert _found([SearchedItem(_LONG)], [[edited]]) == {0: "train.jsonl:1"}
    assert _found([SearchedItem(_LONG)], [[" ".join(words[:10])]]) == {}


def test_a_phrase_of_all_items_is_not_contamination() -> None:
    phrase = "Which of the following is the best answer to the question about topic number"
    items = [SearchedItem(f"{phrase} {n}") for n in range(12)]
    assert _found(items, [[f"{phrase} of the day"]]) == {}
    assert len(_found(items[:3], [[f"{phrase} of the day"]])) == 3


def test_a_short_question_needs_its_answer() -> None:
    items = [SearchedItem("Who wrote Faust?", "Goethe")]
    assert _found(items, [["who wrote faust", "It was Goethe."]]) == {0: "train.jsonl:1"}
    assert _found(items, [["Who wrote Faust?", "Marlowe did."]]) == {}
    assert _found(items, [["Do you know who wrote Faust? Goethe"]]) == {}


def test_characters_without_spaces_are_words() -> None:
    assert normalized_words("日本語 abc-Def") == ["日", "本", "語", "abc", "def"]
    text = "東京は日本の首都であり最大の都市です"
    assert _found([SearchedItem(text)], [[f"問題:{text}。"]]) == {0: "train.jsonl:1"}


def _run(folder: Path, sources: list[Any]) -> Path:
    run = folder / "runs" / "qa" / "one"
    run.mkdir(parents=True)
    job = {
        "name": "qa",
        "model": {"source": "tiny"},
        "data": {"train": sources},
        "method": {"kind": "sft"},
    }
    (run / "job.yaml").write_text(json.dumps(job))
    (run / "manifest.json").write_text("{}")
    return run


def test_the_training_data_of_a_run_are_searched(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi!"}]},
        {"messages": [{"role": "user", "content": _LONG}, {"role": "assistant", "content": "72"}]},
    ]
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = _run(tmp_path, [str(data), str(tmp_path / "gone.jsonl")])
    for model in (run, run / "model"):
        report = search_training_data(str(model), [SearchedItem(_OTHER), SearchedItem(_LONG)])
        assert report is not None
        assert report.flags(2) == [False, True]
        assert report.contaminated[1].startswith("train.jsonl:2")
        assert report.rows == 2
        assert len(report.unread) == 1
        assert "gone.jsonl" in report.unread[0]


def test_a_stage_was_trained_on_the_data_of_the_stages_before_it(tmp_path: Path) -> None:
    for number, text in enumerate((_LONG, _OTHER), start=1):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps({"text": text}) + "\n")
        made = _run(tmp_path / str(number), [str(tmp_path / f"{number}.jsonl")])
        (tmp_path / "stages").mkdir(exist_ok=True)
        made.rename(tmp_path / "stages" / f"0{number}-sft")
    items = [SearchedItem(_LONG), SearchedItem(_OTHER)]
    first = search_training_data(str(tmp_path / "stages" / "01-sft"), items)
    second = search_training_data(str(tmp_path / "stages" / "02-sft"), items)
    assert first is not None
    assert second is not None
    assert (first.flags(2), second.flags(2)) == ([True, False], [True, True])


@pytest.mark.parametrize("sources", [None, ["nowhere.jsonl"]])
def test_unknown_training_data_are_not_called_clean(
    tmp_path: Path, sources: list[str] | None
) -> None:
    model = tmp_path if sources is None else _run(tmp_path, sources)
    assert search_training_data(str(model), [SearchedItem(_LONG)]) is None


def test_an_edited_copy_of_a_short_question_is_found() -> None:
    questions = [
        "Which river did the Romans cross before they founded Cologne?",
        "Why do cats always land on their feet after a fall?",
        "How long does light travel from the sun to Neptune?",
        "What metal melts in the palm of your hand on a warm day?",
        "Where do eels of European rivers go to lay eggs?",
    ]
    items = [SearchedItem(text) for text in questions]
    rows = [
        ["Answer briefly. Why do cats always land feet on feet after a fall? Explain.", "Reflex."],
        ["Which river did the Vikings cross before they plundered Paris?", "The Seine."],
    ]
    assert _found(items, rows) == {1: "train.jsonl:1"}
