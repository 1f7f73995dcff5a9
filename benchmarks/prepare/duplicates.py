"""Recall, false removals, speed and memory of the step `duplicates`.

Documents are made of sentences of the books in `pretrain/standard_ebooks.parquet`, drawn with a
seed; a tenth is copied with words replaced at a known rate, and the true Jaccard similarity of each
pair is computed. The threshold of the step is set below the least similarity that is asked for.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import regex

from benchmarks.prepare.results_page import Figure, data_folder, publish
from preparation.duplicates.signatures import shingle_hashes
from preparation.duplicates.verification import jaccard

SIZES = (10_000, 40_000)
_RATES = (0.0, 0.01, 0.02, 0.03, 0.04)
_LENGTH = 1_570
_PASS = "import sys; from benchmarks.prepare.duplicates import remove; remove(*sys.argv[1:])"


def sentences(data: Path) -> list[str]:
    """Return the sentences of the books, of 40 characters or more."""
    table = pq.read_table(data / "pretrain" / "standard_ebooks.parquet")
    text = next(name for name in ("text", "content") if name in table.column_names)
    found = []
    for book in table.column(text).to_pylist():
        found += [s.strip() for s in regex.split(r"(?<=[.!?])\s+", book) if len(s) >= 40]
    return list(dict.fromkeys(found))


def documents(known: Sequence[str], count: int, seed: int) -> tuple[list[str], dict[int, int]]:
    """Return documents, and the original of each one that is a changed copy.

    Args:
        known: Sentences.
        count: Number of originals.
        seed: Seed of the draws.
    """
    generator = random.Random(seed)
    texts = []
    for _ in range(count):
        parts: list[str] = []
        while sum(map(len, parts)) < _LENGTH:
            parts.append(generator.choice(known))
        texts.append(" ".join(parts))
    copies = {}
    for number, original in enumerate(generator.sample(range(count), count // 10)):
        words = texts[original].split()
        for at in range(len(words)):
            if generator.random() < _RATES[number % len(_RATES)]:
                words[at] = f"replaced{generator.randrange(10**6)}"
        copies[len(texts)] = original
        texts.append(" ".join(words))
    return texts, copies


def remove(source: str, output: str) -> None:
    """Run the step on a file with one worker, and print CPU seconds and peak memory."""
    from preparation.build import build
    from preparation.config.load import parse_preparation
    from preparation.plan import plan

    before = resource.getrusage(resource.RUSAGE_SELF)
    document = {
        "name": "copies",
        "prepare": {
            "sources": source,
            "steps": [{"step": "duplicates", "action": "drop"}],
            "output": output,
            "workers": 1,
        },
    }
    folder = build(plan(parse_preparation(document, "job")), lambda *_: None)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    measured = {"cpu_s": cpu_s, "peak_mib": _peak_mib(), "folder": folder}
    print(json.dumps(measured))


def _peak_mib() -> float:
    """Return the peak memory since this program began; `ru_maxrss` has that of its parent too."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure and publish."""
    known = sentences(data_folder(__doc__))
    figures, speeds = [], {}
    for size in SIZES:
        texts, copies = documents(known, size, seed=size)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.jsonl"
            path.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))
            ended = subprocess.run(
                [sys.executable, "-c", _PASS, str(path), f"{folder}/out"],
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            measured = json.loads(ended.stdout.splitlines()[-1])
            lines = (Path(measured["folder"]) / "rejected.jsonl").read_text().splitlines()
        removed = {int(json.loads(line)["row"].rpartition(":")[2]) - 1 for line in lines}
        speeds[size] = len(texts) / measured["cpu_s"]
        figures += _figures(texts, copies, removed, measured)
    ratio = speeds[SIZES[-1]] / speeds[SIZES[0]]
    how = f"{SIZES[-1]:,} against {SIZES[0]:,} documents"
    figures.append(Figure("duplicates", "ratio of speeds", "0.9–1.1", f"{ratio:.2f}", how))
    publish("duplicates", figures, ("datatrove", "xxhash"))


def _figures(
    texts: Sequence[str], copies: dict[int, int], removed: set[int], measured: dict[str, float]
) -> list[Figure]:
    found: dict[str, list[bool]] = defaultdict(list)
    for copy, original in copies.items():
        value = jaccard(*(_shingles(texts[index]) for index in (copy, original)))
        for least in (0.8, 0.7):
            if least <= value:
                found[f"recall at Jaccard ≥ {least}"].append(copy in removed or original in removed)
    how = f"{len(texts):,} documents of 1.6 KB, a tenth copied with 0–4 % of words changed"
    bars = {"recall at Jaccard ≥ 0.8": "≥ 0.99", "recall at Jaccard ≥ 0.7": "≥ 0.90"}
    figures = [
        Figure("duplicates", measure, bars[measure], f"{sum(hits) / len(hits):.4f}", how)
        for measure, hits in sorted(found.items(), reverse=True)
    ]
    false = len(removed - copies.keys()) / len(texts)
    rate = len(texts) / measured["cpu_s"]
    return [
        *figures,
        Figure("duplicates", "originals removed", "≤ 0.1 %", f"{100 * false:.3f} %", how),
        Figure("duplicates", "documents/s, all passes", "≥ 650", f"{rate:,.0f}", how),
        Figure("duplicates", "peak memory, MiB", "≤ 300", f"{measured['peak_mib']:.0f}", how),
    ]  # fmt: skip


def _shingles(text: str) -> object:
    import numpy as np

    return np.unique(shingle_hashes(text))


if __name__ == "__main__":
    main()
