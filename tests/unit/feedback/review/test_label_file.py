"""The file of labels: what was written is read again, whatever it holds and however it ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from feedback.review.label_file import Judgement, LabelFile
from feedback.review.pairs import ReviewPair, read_pairs
from training.errors import DataError
from validation.json_lines import split_lines

ODD = "a line\u2028and\u2029another\x85 one"


def judged(path: Path, *names: str) -> list[str]:
    """Judge a pair by people, and return who has judged it according to the file."""
    labels = LabelFile(path)
    for name in names:
        labels.add(Judgement(ReviewPair(ODD, "one", "two"), name, "a", "a"))
    labels.close()
    return [json.loads(line)["annotator"] for line in split_lines(path.read_text("utf-8"))]


def test_texts_with_separators_of_lines_are_read_again(tmp_path: Path) -> None:
    assert judged(tmp_path / "labels.jsonl", "Ada") == ["Ada"]
    assert judged(tmp_path / "labels.jsonl", "Ada", "Grace") == ["Ada", "Grace"]
    pairs = tmp_path / "pairs.jsonl"
    record = {"prompt": ODD, "answer_a": ODD, "answer_b": "two"}
    pairs.write_text(json.dumps(record, ensure_ascii=False) + "\n", "utf-8")
    assert [pair.prompt for pair in read_pairs(pairs)] == [ODD]


def test_a_last_line_that_was_written_in_part_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    judged(path, "Ada", "Grace")
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    assert judged(path) == ["Ada"]
    path.write_bytes(content.removesuffix(b"\n"))
    assert judged(path, "Alan") == ["Ada", "Grace", "Alan"]


def test_a_line_that_is_no_label_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"text": "mine"}\n')
    with pytest.raises(DataError, match=r"line 1 is no label of a review"):
        LabelFile(path)
    assert path.read_text() == '{"text": "mine"}\n'
