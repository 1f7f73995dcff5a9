"""Files of a finished preparation: card with licences, recipe that runs again, shards by shape."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.plan import plan
from training.errors import DataError

TEXT = {"text": "The river rises in the hills and falls into the lake by the old mill."}
CHAT = {
    "messages": [
        {"role": "user", "content": "Where does the river rise?"},
        {"role": "assistant", "content": "In the hills, above the old mill."},
    ]
}


def _write(path: Path, *rows: Any) -> str:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return str(path)


def _prepare(folder: Path, sources: Any, **settings: Any) -> Path:
    prepare = {"sources": sources, "output": str(folder / "out"), "workers": 1, **settings}
    job = parse_preparation({"name": "tidy", "prepare": prepare}, "job.yaml")
    return Path(build(plan(job), lambda *_: None))


@pytest.mark.parametrize(
    ("licenses", "of_all"),
    [
        (["Apache-2.0", "Apache-2.0"], "Apache-2.0"),
        (["Apache-2.0", "CC-BY-4.0"], "other"),
        (["Apache-2.0", None], "other"),
        ([None, None], "unknown"),
    ],
)
def test_the_card_states_the_licence_of_each_source_and_of_all(
    licenses: list[str | None], of_all: str, tmp_path: Path
) -> None:
    """A source without a stated licence is not covered by that of another."""
    sources = [
        {"source": _write(tmp_path / f"{n}.jsonl", {"text": f"{TEXT['text']} {n}"})}
        | ({"license": license, "origin": f"https://example.org/{n}"} if license else {})
        for n, license in enumerate(licenses)
    ]
    card = (_prepare(tmp_path, sources) / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == of_all
    for n, license in enumerate(licenses):
        origin = f"https://example.org/{n}" if license else "not stated"
        assert f"| {n}.jsonl | 1 | 1 | {license or 'not stated'} | {origin} |" in body


def test_the_recipe_gives_the_same_result(tmp_path: Path) -> None:
    source = _write(tmp_path / "a.jsonl", TEXT, CHAT)
    folder = _prepare(tmp_path, source, steps=[{"step": "normalise"}])
    files = {path.name for path in folder.iterdir()}
    assert files == {
        *("train", "report.json", "report.html", "README.md"),
        *("findings.jsonl", "rejected.jsonl", "recipe.yaml"),
    }
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["prepare"] |= {"output": str(tmp_path / "again"), "workers": 1}
    again = Path(build(plan(parse_preparation(recipe, "recipe.yaml")), lambda *_: None))
    assert again.name == folder.name
    for name in files - {"train"}:
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_shapes_in_one_file_have_a_shard_each(tmp_path: Path) -> None:
    folder = _prepare(tmp_path, _write(tmp_path / "a.jsonl", TEXT, CHAT, TEXT | {"text": "Short."}))
    report = json.loads((folder / "report.json").read_text())
    assert {shard["file"]: shard["rows"] for shard in report["shards"]} == {
        "train/00000-text.parquet": 2,
        "train/00000-messages.parquet": 1,
    }


def test_a_gzip_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    rows = b"".join(orjson.dumps(TEXT | {"id": n}) + b"\n" for n in range(500))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(rows)[:-100])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: the gzip file is cut short"):
        _prepare(tmp_path, str(path))
    assert not list((tmp_path / "out/tidy").glob("[!.]*"))


def test_the_report_shows_what_would_be_dropped_by_source_and_language(tmp_path: Path) -> None:
    """With `action: report` every row is written, and the page has examples of each reason."""
    german = "Der Fluss entspringt in den Bergen und mündet bei der alten Mühle in den See."
    answers = {"a": [(german, "Ja."), (TEXT["text"], "Yes.")], "b": [(TEXT["text"], "No.")]}
    sources = [
        _write(tmp_path / f"{name}.jsonl", *({"prompt": p, "completion": c} for p, c in pairs))
        for name, pairs in answers.items()
    ]
    steps = [{"step": "language", "keep": ["en"]}, {"step": "quality", "rules": ["answers"]}]
    folder = _prepare(tmp_path, sources, steps=steps)
    report = json.loads((folder / "report.json").read_text())
    assert report["rows_written"] == report["rows_read"] == 3
    _, language, quality = report["steps"]
    assert language["would_reject"] == {"other_language": 1}
    assert language["affected"] == {"other_language": {"source: a.jsonl": 1, "language: de": 1}}
    assert quality["affected"]["answer_has_too_few_words"] == {
        "source: a.jsonl": 2,
        "source: b.jsonl": 1,
        "language: de": 1,
        "language: en": 2,
    }
    page = (folder / "report.html").read_text()
    for step in (language, quality):
        for examples in step["examples"].values():
            assert examples and all(example["text"] in page for example in examples)
