"""Compare preference methods on human preferences: `make bench-preferences`.

A small model is pre-trained on dialogues, fine-tuned on preferred answers, and then aligned with
each method. The objective of each method is measured on held-out prompts.
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
from benchmarks.preferences.statistics import ResultRow, label_results, pair_results, sample_results
from benchmarks.readme_tables import circumstances, table, write_section
from benchmarks.training_runs import ROOT, train

PAGE = ROOT / "docs/methods.md"
_LABELS = {
    "accuracy": "pairs with the chosen answer above the rejected one",
    "auc": "AUC of good against bad answers",
    "margin": "margin",
    "loss": "loss",
    "reward": "reward of a sampled answer",
    "kl": "KL to the start model, nats per answer",
    "answer_tokens": "tokens per answer",
}


class Bench:
    """Benchmark that trains each method once and measures it.

    Args:
        home: The folder of run folders.
        side: The rows to measure on: `held`, or `choosing` while settings are tuned.
    """

    def __init__(self, home: Path, side: str):
        self.home, self.rows, self.side = home, home / "rows", side
        self.start = home / "start/model"

    def train_start_model(self) -> dict[str, Any]:
        """Train the model that methods start from and return its measurements."""
        write_rows(self.rows)
        train(jobs.pretraining(self.rows), self.home / "reading")
        pretrained = self.home / "reading/model"
        return train(jobs.fine_tuning(pretrained, self.rows, self.side), self.home / "start")

    def train(self, name: str) -> None:
        """Train a method, unless its folder has measurements."""
        train(self._document(name), self._cell(name))

    def results(self, name: str) -> list[ResultRow]:
        """Return the held-out results of a trained method, computed once."""
        path = self._cell(name) / "figures.json"
        if not path.exists():
            path.write_text(json.dumps(self._evaluate(name)))
        return [tuple(line) for line in json.loads(path.read_text())]

    def _evaluate(self, name: str) -> list[ResultRow]:
        document, cell = self._document(name), self._cell(name)
        if name in jobs.SAMPLED:
            held = self.rows / f"prompts-pairs-{self.side}.jsonl"
            prompts = [json.loads(line)["prompt"] for line in held.read_text().splitlines()]
            return sample_results(document, cell, self.start, self._scorer(), prompts)
        evaluate = label_results if jobs.COMPARED[name].rows == "labels" else pair_results
        return evaluate(document, cell, Path(document["model"]["source"]))

    def _document(self, name: str) -> dict[str, Any]:
        if name in jobs.SAMPLED:
            setting = jobs.SAMPLED[name]
            return jobs.rl(self.start, self._scorer(), self.rows, self.side, setting)
        start = self.home / jobs.COMPARED[name].start / "model"
        return jobs.preference(start, self.rows, self.side, jobs.COMPARED[name])

    def _scorer(self) -> Path:
        return self._cell("reward") / "model"

    def _cell(self, name: str) -> Path:
        return self.home / name.replace(", ", "-")


def main() -> None:
    """Train every method and write the table each time one is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "runs/.preferences")
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.home, ignore_errors=True)
    bench = Bench(options.home, "held")
    bench.train_start_model()
    # Two runs train at a time while finished ones are evaluated. RL methods need the reward model.
    bench.train("reward")
    results: dict[str, list[ResultRow]] = {}
    with ThreadPoolExecutor(2) as pool:
        names = {pool.submit(bench.train, name): name for name in (*jobs.COMPARED, *jobs.SAMPLED)}
        for done in as_completed(names):
            done.result()
            results[names[done]] = bench.results(names[done])
            _write(bench, {name: results[name] for name in names.values() if name in results})


def _write(bench: Bench, results: Mapping[str, Sequence[ResultRow]]) -> None:
    header = ["method", "held-out rows", "metric", "before", "after", "95 % interval of after"]
    body = [
        [name, where, _LABELS[measure], before, after, around or "–"]
        for name, lines in results.items()
        for where, measure, before, after, around in lines
    ]
    weights = bench.train_start_model()["trained"]
    counts = {
        name: _count(bench.rows / f"{name}-train.jsonl") for name in ("pairs", "labels", "matched")
    }
    write_section(
        "preferences",
        f"""{circumstances()} `make bench-preferences`.

A Llama of {weights / 1e6:.1f}M parameters, trained on {counts["pairs"]:,} pairs about harmlessness,
on {counts["labels"]:,} labeled answers, or on {counts["matched"]:,} pairs made of those answers.
One run each.

{table(header, body)}
""",
        PAGE,
    )


def _count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    main()
