"""Recall and false hits of the search for benchmark items, in four domains.

The threshold was chosen on one half of the rephrased problems and of the training problems of
GSM8K; the figures are those of the other half. Items of the other domains were not used to choose.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.prepare.results_page import Figure, data_folder, publish
from preparation.rows import PreparedRow
from preparation.steps.decontaminate.items import BenchmarkItem
from preparation.steps.decontaminate.section import DecontaminateStep, Decontamination

_EDITED_SHARE = 0.05
_SIMILARITY = DecontaminateStep.model_fields["similarity"].default


def is_for_choosing(text: str) -> bool:
    """Return True for the half of the texts on which settings may be chosen."""
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 0


def edited(text: str, draw: random.Random) -> str:
    """Return a text with 5 % of its words replaced by other words of it."""
    words = text.split()
    return " ".join(draw.choice(words) if draw.random() < _EDITED_SHARE else w for w in words)


def share_found(rule: Decontamination, texts: Sequence[str]) -> float:
    """Return the share of prompts in which an item is found."""
    rows = [PreparedRow(str(n), "", "prompt", {"prompt": text}) for n, text in enumerate(texts)]
    found = 0
    for start in range(0, len(rows), 64):
        found += sum(bool(one.reasons) for one in rule.examine_all(rows[start : start + 64]))
    return found / len(rows)


def questions(data: Path) -> dict[str, list[str]]:
    """Return the questions of each domain."""
    with (data / "eval/truthfulqa.csv").open(newline="") as stream:
        truthful = [row["Question"] for row in csv.DictReader(stream)]
    medical = pq.read_table(data / "sft/medquad_qa.parquet").to_pylist()
    return {
        "GSM8K test": [row["question"] for row in _json_lines(data / "eval/gsm8k_test.jsonl")],
        "MMLU": [row["question"] for row in pq.read_table(data / "eval/mmlu.parquet").to_pylist()],
        "TruthfulQA": truthful,
        "MedQuAD": [row["instruction"] for row in medical],
    }


def _json_lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in text.splitlines()]


def _rule(texts: Sequence[str]) -> Decontamination:
    items = [BenchmarkItem(str(n), text, "") for n, text in enumerate(dict.fromkeys(texts))]
    return Decontamination(items, _SIMILARITY)


def _figures(data: Path) -> list[Figure]:
    of_domain = questions(data)
    pairs = _json_lines(data / "neardup/gsm8k_rephrased_contamination.jsonl.gz")
    rephrased = [row["rephrased"] for row in pairs if not is_for_choosing(row["original"])]
    training = _json_lines(data / "reasoning/gsm8k_train.jsonl.gz")
    others = [row["question"] for row in training if not is_for_choosing(row["question"])]
    rule = _rule(of_domain["GSM8K test"])
    start = time.process_time()
    false = share_found(rule, others)
    speed = len(others) / (time.process_time() - start)
    index = f"index of {len(of_domain['GSM8K test'])} GSM8K test questions"
    figures = [
        Figure("decontaminate", "recall, rephrased problems", "≥ 0.90",
               f"{share_found(rule, rephrased):.3f}", f"{index}, {len(rephrased)}, held-out half"),
        Figure("decontaminate", "false hits, training problems", "≤ 0.1 %", f"{false:.2%}",
               f"{index}, {len(others):,} GSM8K training questions, held-out half"),
        Figure("decontaminate", "rows/s", "", f"{speed:,.0f}", index),
    ]  # fmt: skip
    for domain, texts in of_domain.items():
        figures += _domain_figures(domain, texts, of_domain)
    return figures


def _domain_figures(
    domain: str, texts: Sequence[str], of_domain: dict[str, list[str]]
) -> list[Figure]:
    """Return recall of a domain's own questions, and false hits of the other domains' questions."""
    rule = _rule(texts)
    asked = random.Random(1).sample(sorted(set(texts)), min(300, len(set(texts))))
    draw = random.Random(2)
    light = [edited(text, draw) for text in asked]
    strangers = [text for name, other in of_domain.items() if name != domain for text in other]
    strangers = random.Random(3).sample(strangers, 1_000)
    how = f"{len(asked)} questions of {domain}"
    return [
        Figure("decontaminate", f"recall, exact, {domain}", "≥ 0.98",
               f"{share_found(rule, asked):.3f}", how),
        Figure("decontaminate", f"recall, 5 % of words changed, {domain}", "≥ 0.98",
               f"{share_found(rule, light):.3f}", how),
        Figure("decontaminate", f"false hits, {domain}", "≤ 0.1 %",
               f"{share_found(rule, strangers):.2%}", "1,000 questions of the other domains"),
    ]  # fmt: skip


def main() -> None:
    """Measure and publish."""
    publish("contamination", _figures(data_folder(__doc__)), ("scikit-learn",))


if __name__ == "__main__":
    main()
