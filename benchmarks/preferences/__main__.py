"""Every preference method on real preferences: `make bench-preferences`.

A small model reads dialogues, learns to answer as people liked, and is then aligned by every
method; what each is there for is counted on prompts that none of them saw.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.preferences import jobs
from benchmarks.preferences.rows import write_rows
from benchmarks.preferences.statistics import Line, of_labels, of_pairs, of_samples
from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.training_runs import ROOT, train

PAGE = ROOT / "docs/methods.md"
_WORDS = {
    "accuracy": "chosen above rejected, share of pairs",
    "auc": "good above bad, share of all pairs of the two (AUC)",
    "margin": "how far above",
    "loss": "loss",
    "reward": "reward of a sampled answer",
    "kl": "KL from the start, nats an answer",
    "answer_tokens": "tokens of an answer",
}


class Bench:
    """The cells, each trained once.

    Args:
        home: Where they are kept.
        side: The rows that are measured on: `held`, or `choosing` while settings are sought.
    """

    def __init__(self, home: Path, side: str):
        self.home, self.rows, self.side = home, home / "rows", side
        self.start = home / "start/model"

    def begin(self) -> dict[str, Any]:
        """Make the model that methods start from, and return what was measured of it."""
        write_rows(self.rows)
        train(jobs.reading(self.rows), self.home / "reading")
        read = self.home / "reading/model"
        return train(jobs.answering(read, self.rows, self.side), self.home / "start")

    def train(self, name: str) -> None:
        """Train a method, unless that was done."""
        train(self._document(name), self._cell(name))

    def figures(self, name: str) -> list[Line]:
        """Return what the held-out rows of a trained method come to; they are counted once."""
        kept = self._cell(name) / "figures.json"
        if not kept.exists():
            kept.write_text(json.dumps(self._counted(name)))
        return [tuple(line) for line in json.loads(kept.read_text())]

    def _counted(self, name: str) -> list[Line]:
        document, cell = self._document(name), self._cell(name)
        if name in jobs.SAMPLED:
            held = self.rows / f"prompts-pairs-{self.side}.jsonl"
            prompts = [json.loads(line)["prompt"] for line in held.read_text().splitlines()]
            return of_samples(document, cell, self.start, self._scorer(), prompts)
        count = of_labels if jobs.COMPARED[name].rows == "labels" else of_pairs
        return count(document, cell, Path(document["model"]["source"]))

    def _document(self, name: str) -> dict[str, Any]:
        if name in jobs.SAMPLED:
            setting = jobs.SAMPLED[name]
            return jobs.sampling(self.start, self._scorer(), self.rows, self.side, setting)
        start = self.home / jobs.COMPARED[name].start / "model"
        return jobs.preferring(start, self.rows, self.side, jobs.COMPARED[name])

    def _scorer(self) -> Path:
        return self._cell("reward") / "model"

    def _cell(self, name: str) -> Path:
        return self.home / name.replace(", ", "-")


def main() -> None:
    """Train every cell, and write the table, which grows as they are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "runs/.preferences")
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.home, ignore_errors=True)
    bench = Bench(options.home, "held")
    bench.begin()
    # One process to a core trains; rows are counted meanwhile. The reward model is needed first.
    bench.train("reward")
    found: dict[str, list[Line]] = {}
    with ThreadPoolExecutor(2) as pool:
        names = {pool.submit(bench.train, name): name for name in (*jobs.COMPARED, *jobs.SAMPLED)}
        for done in as_completed(names):
            done.result()
            found[names[done]] = bench.figures(names[done])
            _write(bench, {name: found[name] for name in names.values() if name in found})


def _write(bench: Bench, found: Mapping[str, Sequence[Line]]) -> None:
    header = ["method", "held out", "measure", "before", "after", "95 % of after"]
    body = [
        [name, where, _WORDS[measure], before, after, around or "–"]
        for name, lines in found.items()
        for where, measure, before, after, around in lines
    ]
    weights = bench.begin()["trained"]
    seen = {
        name: _count(bench.rows / f"{name}-train.jsonl") for name in ("pairs", "labels", "matched")
    }
    write_section(
        "preferences",
        f"""{circumstances()} `make bench-preferences`.

A Llama of {weights / 1e6:.1f}M parameters; {seen["pairs"]:,} pairs about harm, {seen["labels"]:,}
labelled answers and {seen["matched"]:,} pairs of them to learn from; one run each.

{table(header, body)}
""",
        PAGE,
    )


def _count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    main()
