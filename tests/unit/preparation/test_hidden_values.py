"""Secrets and personal data: found in every column, and in no file about the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.plan import plan
from training.data.readers.records import abbreviate, hidden_values
from training.errors import DataError

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
MAIL = "martha.quinn@hospital-north.org"
HIDING = [{"step": "secrets"}, {"step": "personal_data", "kinds": ["email", "person"]}]
SENTENCE = (
    "The committee met on a sunny afternoon to discuss the plans for the library of the town."
)
ABOUT = ("report.json", "report.html", "findings.jsonl", "rejected.jsonl", "README.md")


def _prepare(folder: Path, lines: list[Any], steps: list[Any], **source: Any) -> Path:
    data = folder / "data.jsonl"
    data.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines)
    )
    settings = {"sources": [{"source": str(data), **source}], "steps": steps, "workers": 1}
    document = {"name": "tidy", "prepare": {**settings, "output": str(folder / "out")}}
    return Path(build(plan(parse_preparation(document, "job.yaml")), lambda *_: None))


def _rows_text(folder: Path) -> str:
    files = sorted(folder.glob("*/*.parquet"))
    return json.dumps([row for path in files for row in pq.read_table(path).to_pylist()])


def _check_no_value(folder: Path) -> None:
    for name in ABOUT:
        text = (folder / name).read_text()
        for value in (TOKEN, TOKEN[:12], MAIL, "martha", "Quinn"):
            assert value not in text, f"{name} holds {value}"


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_examples_hide_what_any_step_finds(order: tuple[int, ...], tmp_path: Path) -> None:
    row = {"prompt": f"Reset it, my mail is {MAIL}", "completion": f"Dear Martha Quinn: {TOKEN}"}
    showing = [{"step": "quality", "rules": ["answers"], "min_answer_words": 90}]
    showing += [{"step": "duplicates"}, {"step": "language", "keep": ["de"]}]
    groups: list[list[Any]] = [showing, HIDING[:1], HIDING[1:]]
    folder = _prepare(tmp_path, [row, row], [step for at in order for step in groups[at]])
    steps = json.loads((folder / "report.json").read_text())["steps"]
    examples = [text for step in steps for text in step["examples"].values()]
    assert len(examples) == 3, "the report has no examples"
    _check_no_value(folder)


def test_a_value_that_normalisation_would_reveal_is_hidden(tmp_path: Path) -> None:
    row = {"prompt": "my mail is " + MAIL.replace("@", "@\u200b"), "completion": "ok"}
    steps = [{"step": "quality", "rules": ["answers"]}, {"step": "normalise"}, *HIDING]
    folder = _prepare(tmp_path, [row], steps)
    assert "⟨email⟩" in (folder / "report.json").read_text()
    _check_no_value(folder)


def test_reasons_why_a_record_is_unreadable_hold_no_value(tmp_path: Path) -> None:
    lines = [
        {"text": SENTENCE},
        f'{{"text": "{TOKEN}'.encode(),
        f'["{TOKEN}", "{MAIL}"]'.encode(),
        {"messages": [{"role": TOKEN, "content": MAIL}]},
    ]
    folder = _prepare(tmp_path, lines, HIDING)
    rejected = [orjson.loads(line) for line in (folder / "rejected.jsonl").open()]
    assert [line["row"] for line in rejected] == [f"data.jsonl:{n}" for n in (2, 3, 4)]
    assert "not shown" in rejected[0]["detail"]
    _check_no_value(folder)
    with pytest.raises(DataError, match="none of its 1 rows can be read") as error:
        _prepare(tmp_path, lines[1:2], HIDING)
    assert TOKEN[:12] not in str(error.value)
    assert abbreviate("shown again") == "shown again"


def test_values_are_hidden_in_a_block_only() -> None:
    with hidden_values(True):
        assert abbreviate(TOKEN) == "<str of 40, not shown>"
        assert abbreviate(7) == "<int, not shown>"
    assert abbreviate(TOKEN) == TOKEN


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Tell me", "note": f"use {TOKEN} or {MAIL}"},
        {"prompt": "Tell me", "meta": {"user": {"mail": MAIL}, "arguments": [f"use {TOKEN}"]}},
        {
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "a b"},
            ],
            "tools": [
                {"name": "get_user", "description": f"{TOKEN} of {MAIL}", "parameters": {}},
            ],
        },
        {
            "messages": [
                {"role": "user", "name": MAIL, "content": f"my token is {TOKEN}"},
                {"role": "assistant", "content": "thank you"},
            ]
        },
    ],
)
def test_values_are_replaced_in_every_column(row: dict[str, Any], tmp_path: Path) -> None:
    steps = [{**step, "action": "replace"} for step in HIDING]
    folder = _prepare(tmp_path, [row], steps)
    text = _rows_text(folder)
    assert TOKEN not in text
    assert MAIL not in text
    assert "[SECRET_GITHUB_TOKEN]" in text
    assert "[EMAIL_1]" in text
    if "tools" in row:
        assert "get_user" in text
    _check_no_value(folder)


def test_tags_are_searched_and_replaced(tmp_path: Path) -> None:
    steps = [{**step, "action": "replace"} for step in HIDING]
    row = {"text": SENTENCE, "quote": f"Use {TOKEN}, or write to {MAIL}.", "page": 7}
    folder = _prepare(tmp_path, [row], steps, tags=["quote", "page"])
    written = _rows_text(folder)
    assert "[SECRET_GITHUB_TOKEN], or write to [EMAIL_1]." in written
    assert SENTENCE in written and TOKEN not in written and MAIL not in written
    _check_no_value(folder)


def test_a_secret_across_the_searched_beginning_is_hidden(tmp_path: Path) -> None:
    long = f"{TOKEN} {SENTENCE * 760} {MAIL}"
    steps = [{"step": "quality", "rules": ["c4"]}, *HIDING]
    folder = _prepare(tmp_path, [{"text": long}], steps)
    steps = json.loads((folder / "report.json").read_text())["steps"]
    texts = [one["text"] for s in steps for many in s["examples"].values() for one in many]
    assert texts and all(text.startswith("⟨github_token⟩") for text in texts)
    _check_no_value(folder)
