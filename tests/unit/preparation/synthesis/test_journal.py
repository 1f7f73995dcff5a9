"""Journal of requests: what a killed process leaves is read, and altered lines are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from preparation.synthesis.journal import RequestJournal
from training.errors import RunError
from training.judges.reply_cache import JudgeReply

REPLY = JudgeReply("two\nlines\u2028é \ud800", 12, 3, truncated=True)


def written(path: Path) -> RequestJournal:
    journal = RequestJournal(path)
    journal.record("a", "teacher", REPLY)
    journal.record("b", "judge", JudgeReply("7"))
    journal.close()
    return journal


def test_replies_are_read_back(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.jsonl")
    again = RequestJournal(tmp_path / "journal.jsonl")
    assert again["a"] == REPLY and "b" in again and "c" not in again and len(again) == 2
    assert again.digest() == journal.digest()


@pytest.mark.parametrize("left", [1, 40, -1])
def test_an_incomplete_last_line_is_cut_off_and_written_again(tmp_path: Path, left: int) -> None:
    path = tmp_path / "journal.jsonl"
    written(path)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:left])
    journal = RequestJournal(path)
    assert "a" in journal and "b" not in journal
    journal.record("b", "judge", JudgeReply("7"))
    journal.close()
    assert path.read_bytes() == first + second


@pytest.mark.parametrize("change", [(b'"7"', b'"9"'), (b'"key": "b"', b'"key": "c"'), (b"{", b"")])
def test_an_altered_line_is_named(tmp_path: Path, change: tuple[bytes, bytes]) -> None:
    path = tmp_path / "journal.jsonl"
    written(path)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second.replace(*change))
    with pytest.raises(RunError, match=r"journal.jsonl, line 2: the line was altered.*Delete"):
        RequestJournal(path)
