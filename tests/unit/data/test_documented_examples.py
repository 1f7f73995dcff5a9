"""The tables of docs/data.md: each file is written and prepared, and does what its row says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.data.data_factories import byte_level, make_job
from tests.unit.data.test_templates import CHATML_PLAIN
from training.data.prepare import Prepared, prepare
from training.data.storage.table import RowTable
from training.data.tokenization.token_rows import IGNORE
from training.errors import DataError

PAGE = Path(__file__).parents[3] / "docs/data.md"
TOKENIZER = byte_level(CHATML_PLAIN)
CODE = re.compile(r"`([^`]+)`")
END = "<|im_end|>"


def examples(table: str) -> list[object]:
    """Return name, file and last cell of each row of a table, by the head of its first column."""
    text = PAGE.read_text(encoding="utf-8").split(f"| {table} |")[1].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return [pytest.param(file, last, id=name) for name, file, last in rows]


def prepared(cell: str, folder: Path) -> Prepared:
    """Write the file of a cell and prepare it."""
    parts = CODE.findall(cell)
    method = parts.pop() if parts[-1] == "dpo" else "sft"
    content = parts.pop().replace("\\n", "\n")
    path = folder / (parts[0] if parts else "a.jsonl")
    path.write_text(content, encoding="utf-8")
    job = make_job(str(path), method=method, template="chatml")
    return prepare(job, TOKENIZER, cache_dir=folder / "cache", run_dir=folder / "run")


def learned(data: Prepared) -> str:
    """Return the learned text of the first row, without the end of the turn."""
    assert isinstance(data.train, RowTable)
    labels = [token for token in data.train[0]["labels"] if token != IGNORE]
    return TOKENIZER.decode(labels).removesuffix(END)


@pytest.mark.parametrize(("file", "expected"), examples("read"))
def test_files_that_are_read(file: str, expected: str, tmp_path: Path) -> None:
    assert learned(prepared(file, tmp_path)).split() == expected.strip("`").split()


@pytest.mark.parametrize(("file", "expected"), examples("refused"))
def test_files_that_are_refused(file: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(file, tmp_path)
    assert expected in str(caught.value)


@pytest.mark.parametrize(("file", "expected"), examples("warned of"))
def test_files_that_are_warned_of(file: str, expected: str, tmp_path: Path) -> None:
    assert any(expected in warning for warning in prepared(file, tmp_path).report.warnings)
