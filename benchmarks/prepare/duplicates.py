"""Recall, false removals, speed and memory of the step `duplicates`, from 10^4 to 10^6 documents.

Documents are made of sentences of the books in `pretrain/standard_ebooks.parquet`, drawn with a
seed; a tenth is copied with words replaced at a known rate, and the true Jaccard similarity of each
pair is computed. The threshold of the step is set below the least similarity that is asked for. A
document has five sentences or more, so that two documents are not alike by the choice of sentences.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import regex

from benchmarks.prepare.results_page import Figure, data_folder, publish
from preparation.duplicates.signatures import shingle_hashes
from preparation.duplicates.verification import jaccard

SIZES = (10_000, 100_000, 1_000_000)
_RATES = (0.0, 0.01, 0.02, 0.03, 0.04)
_LENGTH = 1_570
_SENTENCE = (40, 300)
"""Least and greatest number of characters of a sentence."""
_PASS = "import sys; from benchmarks.prepare.duplicates import remove; remove(*sys.argv[1:])"


@dataclass(frozen=True)
class Copy:
    """Changed copy of a document.

    Attributes:
        original: Number of the document.
        similarity: Jaccard similarity of both.
    """

    original: int
    similarity: float


def sentences(data: Path) -> list[str]:
    """Return the sentences of the books that are neither very short nor very long."""
    table = pq.read_table(data / "pretrain" / "standard_ebooks.parquet")
    text = next(name for name in ("text", "content") if name in table.column_names)
    least, most = _SENTENCE
    found = []
    for book in table.column(text).to_pylist():
        found += [s.strip() for s in regex.split(r"(?<=[.!?])\s+", book) if least <= len(s) <= most]
    return list(dict.fromkeys(found))


def write_documents(known: Sequence[str], count: int, path: Path) -> dict[int, Copy]:
    """Write documents, and return the copies among them by number.

    Args:
        known: Sentences.
        count: Number of originals, and seed of the draws.
        path: JSON Lines file to write.
    """
    generator = random.Random(count)
    copied = generator.sample(range(count), count // 10)
    originals = dict.fromkeys(copied, "")
    copies = {}
    with path.open("wb") as stream:
        for number in range(count):
            text = _document(known, generator)
            if number in originals:
                originals[number] = text
            stream.write(orjson.dumps({"text": text}) + b"\n")
        for number, original in enumerate(copied):
            words = originals[original].split()
            for at in range(len(words)):
                if generator.random() < _RATES[number % len(_RATES)]:
                    words[at] = f"replaced{generator.randrange(10**6)}"
            text = " ".join(words)
            similarity = jaccard(_shingles(originals[original]), _shingles(text))
            copies[count + number] = Copy(original, similarity)
            stream.write(orjson.dumps({"text": text}) + b"\n")
    return copies


def _document(known: Sequence[str], generator: random.Random) -> str:
    parts: list[str] = []
    length = 0
    while length < _LENGTH:
        parts.append(generator.choice(known))
        length += len(parts[-1])
    return " ".join(parts)


def remove(source: str, output: str) -> None:
    """Run the step on a file with one worker, and print CPU seconds and peak memory by pass."""
    from preparation.build import build
    from preparation.config.load import parse_preparation
    from preparation.plan import plan

    document = {
        "name": "copies",
        "prepare": {
            "sources": source,
            "steps": [{"step": "duplicates", "action": "drop"}],
            "output": output,
            "workers": 1,
        },
    }
    passes: dict[str, dict[str, float]] = {}
    begun = start = _cpu_s()

    def progress(name: str, done: int, total: int) -> None:
        nonlocal begun
        if done == total:
            passes[name] = {"cpu_s": _cpu_s() - begun, "peak_mib": _peak_mib(), "tasks": total}
            Path("/proc/self/clear_refs").write_text("5")  # the next peak is that of the next pass
            begun = _cpu_s()
            sys.stderr.write(f"{name} {passes[name]}\n")

    folder = build(plan(parse_preparation(document, "job")), progress)
    peak = max([_peak_mib(), *(one["peak_mib"] for one in passes.values())])
    measured = {"cpu_s": _cpu_s() - start, "peak_mib": peak, "folder": folder, "passes": passes}
    print(json.dumps(measured))


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_mib() -> float:
    """Return the peak memory since this program began; `ru_maxrss` has that of its parent too."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure and publish."""
    known = sentences(data_folder(__doc__))
    figures, speeds, peaks = [], {}, {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.jsonl"
            copies = write_documents(known, size, path)
            ended = subprocess.run(
                [sys.executable, "-c", _PASS, str(path), f"{folder}/out"],
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            measured = json.loads(ended.stdout.splitlines()[-1])
            removed = _removed(Path(measured["folder"]))
        speeds[size] = (size + len(copies)) / measured["cpu_s"]
        peaks[size] = measured["peak_mib"]
        figures += _figures(size, copies, removed, measured)
    for size in SIZES[1:]:
        how = f"{size:,} against {SIZES[0]:,} documents"
        ratio = speeds[size] / speeds[SIZES[0]]
        figures.append(Figure("duplicates", "ratio of speeds", "0.9–1.1", f"{ratio:.2f}", how))
    grown = peaks[SIZES[-1]] - peaks[SIZES[-2]]
    how = f"{SIZES[-1]:,} against {SIZES[-2]:,} documents"
    figures.append(Figure("duplicates", "growth of memory, MiB", "flat", f"{grown:+.0f}", how))
    publish("duplicates", figures, ("datatrove", "xxhash"))


def _removed(folder: Path) -> set[int]:
    with (folder / "rejected.jsonl").open() as lines:
        return {int(json.loads(line)["row"].rpartition(":")[2]) - 1 for line in lines}


def _figures(
    size: int, copies: dict[int, Copy], removed: set[int], measured: dict[str, float]
) -> list[Figure]:
    total = size + len(copies)
    how = f"{total:,} documents of 1.6 KB, a tenth copied with 0–4 % of words changed"
    figures = []
    for least, bar in ((0.8, "≥ 0.99"), (0.7, "≥ 0.90")):
        alike = {number: copy for number, copy in copies.items() if copy.similarity >= least}
        hits = sum(n in removed or copy.original in removed for n, copy in alike.items())
        recall = f"{hits / len(alike):.4f}"
        figures.append(Figure("duplicates", f"recall at Jaccard ≥ {least}", bar, recall, how))
    false = len(removed - copies.keys()) / total
    rate = total / measured["cpu_s"]
    return [
        *figures,
        Figure("duplicates", "originals removed", "≤ 0.1 %", f"{100 * false:.3f} %", how),
        Figure("duplicates", "documents/s, all passes", "≥ 650", f"{rate:,.0f}", how),
        Figure("duplicates", "peak memory, MiB", "≤ 300", f"{measured['peak_mib']:.0f}", how),
    ]  # fmt: skip


def _shingles(text: str) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.unique(shingle_hashes(text))


if __name__ == "__main__":
    main()
