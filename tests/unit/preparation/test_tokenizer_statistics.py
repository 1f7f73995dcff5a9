"""Statistics of a tokenizer, against counts made from its tokens in other ways."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.training_runs import DATA
from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.ledger import merge
from preparation.plan import plan
from preparation.rows import PreparedRow
from preparation.steps.tokenizer_statistics import (
    TokenizerStatistics,
    TokenizerStatisticsStep,
    special_ids,
)
from training.errors import JobError

TEXTS = [
    "The turbopump of the engine was turbopump number two.",
    "Die Turbopumpe läuft; größer als 漢字 🙂 und naïve café.",
    "x = turbopump_id + 12\n\nA last line about the engine",
]


def _byte_level(folder: Path) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the engine was of the last line café"] * 5, trainer)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def _pieces(folder: Path) -> Path:
    """Save a WordPiece tokenizer that splits words in a known way."""
    pieces = ["[UNK]", "pump", "##s", "##house", "the", "un", "##able", "##un", "."]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def _rows(texts: list[str], source: str = "a") -> list[PreparedRow]:
    return [
        PreparedRow(f"{source}:{n}", source, "text", {"text": t}) for n, t in enumerate(texts, 1)
    ]


def _measured(file: Path, rows: list[PreparedRow], max_length: int | None = None) -> dict[str, Any]:
    statistics = TokenizerStatistics(file, max_length)
    for row in rows:
        statistics.add(row)
    return statistics.to_json()


def _assert_equals_whole_texts(file: Path, texts: list[str], max_length: int) -> Counter[str]:
    """Compare with the tokens of the whole texts and, for bytes, with what each decodes to."""
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokens = [tokenizer.encode(text, add_special_tokens=False).tokens for text in texts]
    counts = _measured(file, _rows(texts), max_length)["sources"]["a"]
    assert counts["tokens"] == sum(map(len, tokens))
    assert counts["bytes"] == len("".join(texts).encode())
    assert counts["rows_over_max_length"] == sum(len(each) > max_length for each in tokens)
    ids = [tokenizer.token_to_id(token) for each in tokens for token in each]
    divided = sum(  # a piece of a character decodes to the replacement character alone
        "�" in tokenizer.decode([i]) or tokenizer.id_to_token(i).startswith("<0x") for i in ids
    )
    assert counts["byte_tokens"] == divided
    return Counter(counts)


def test_counts_equal_those_of_the_whole_texts(tmp_path: Path) -> None:
    counts = _assert_equals_whole_texts(_byte_level(tmp_path), TEXTS, 40)
    assert counts["byte_tokens"] > 10
    assert 0 < counts["rows_over_max_length"] < 3


@pytest.mark.skipif(not Path(DATA).is_dir(), reason=f"{DATA} does not exist")
@pytest.mark.parametrize("name", ["tokenizers/gpt-neox-20b", "stories260K-hf"])
def test_counts_equal_those_of_published_tokenizers(name: str) -> None:
    file = Path(DATA) / "models" / name / "tokenizer.json"
    counts = _assert_equals_whole_texts(file, TEXTS, 20)
    assert counts["byte_tokens"] > 0


def test_words_are_counted_in_their_text(tmp_path: Path) -> None:
    file = _pieces(tmp_path)
    rows = _rows(["the pumps pumphouse", "unable pumps. pumps", "the pumps. zzz"])
    measured = _measured(file, rows)
    assert measured["words"] == {
        "pumps": {"count": 4, "tokens": 8},
        "pumphouse": {"count": 1, "tokens": 2},
        "unable": {"count": 1, "tokens": 2},
    }
    assert measured["sources"]["a"] == {
        "bytes": 52, "words": 9, "tokens": 17, "rows": 3, "byte_tokens": 0, "unknown_tokens": 1,
    }  # fmt: skip
    assert special_ids(Tokenizer.from_file(str(file))) == (frozenset(), frozenset({0}))


def test_units_add_up(tmp_path: Path) -> None:
    file = _byte_level(tmp_path)
    rows = [*_rows(TEXTS), *_rows(TEXTS[:2], "b")]
    whole = _measured(file, rows, 40)
    assert merge(_measured(file, rows[:2], 40), _measured(file, rows[2:], 40)) == whole


def test_report_page_and_card_show_the_facts(tmp_path: Path) -> None:
    _pieces(tmp_path)
    text = "the pumps. the pumphouse is unable7 " * 3
    lines = [json.dumps({"text": f"{text}{n}"}) for n in range(4)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    step = {"step": "tokenizer_statistics", "tokenizer": str(tmp_path), "max_length": 10}
    results = []
    for unit_bytes in (100, 1 << 20):
        document = {
            "name": "tidy",
            "prepare": {
                "sources": str(tmp_path / "a.jsonl"), "steps": [step], "workers": 1,
                "output": str(tmp_path / str(unit_bytes)),
            },
        }  # fmt: skip
        planned = plan(parse_preparation(document, "job.yaml"), unit_bytes)
        folder = Path(build(planned, lambda *_: None))
        results.append(json.loads((folder / "report.json").read_text())["steps"][1]["facts"])
    by_source, words = results[0]
    assert results[0] == results[1], "the facts depend on the units"
    assert by_source["columns"][-1] == "rows over 10 tokens"
    assert by_source["rows"][0][:2] + by_source["rows"][0][-1:] == ["a.jsonl", 4, 4]
    assert words["rows"] == [["pumphouse", 12, 2.0, 12], ["pumps", 12, 2.0, 12]]
    for file in ("report.html", "README.md"):
        page = (folder / file).read_text()
        assert "Words that are split most" in page and "pumphouse" in page


def test_no_words_are_shown_in_a_job_that_finds_values(tmp_path: Path) -> None:
    _pieces(tmp_path)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "the pumps " * 9}) + "\n")
    steps = [
        {"step": "tokenizer_statistics", "tokenizer": str(tmp_path)},
        {"step": "secrets", "action": "report"},
    ]
    prepare = {
        "sources": str(tmp_path / "a.jsonl"), "steps": steps, "workers": 1,
        "output": str(tmp_path / "out"),
    }  # fmt: skip
    planned = plan(parse_preparation({"name": "tidy", "prepare": prepare}, "job.yaml"))
    folder = Path(build(planned, lambda *_: None))
    (table,) = json.loads((folder / "report.json").read_text())["steps"][1]["facts"]
    assert table["title"] == "Tokens by source"
    assert all(
        b"pumps" not in (folder / name).read_bytes()
        for name in ("report.json", "report.html", "README.md")
    )


def test_a_tokenizer_that_is_not_here_is_a_problem(tmp_path: Path) -> None:
    step = {"step": "tokenizer_statistics", "tokenizer": "org/not-a-model"}
    document = {"name": "tidy", "prepare": {"sources": "builtin:python-stdlib", "steps": [step]}}
    with pytest.raises(JobError, match=r"no file org/not-a-model/tokenizer\.json"):
        parse_preparation(document, "job.yaml")


def test_a_model_in_the_hub_cache_is_named_by_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "models--org--small"
    snapshot = root / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0123")
    _pieces(snapshot)
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    step = TokenizerStatisticsStep(step="tokenizer_statistics", tokenizer="org/small")
    assert not list(step.problems("prepare.steps.0"))
    assert step.files() == {"org/small": snapshot / "tokenizer.json"}
