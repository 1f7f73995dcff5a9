"""Recall and false hits of the search for benchmark items, in five domains.

The settings of rephrased items were chosen on one half of the rephrased problems and of the
training problems of GSM8K and on MGSM, those of edited ones on one half of MMLU, TruthfulQA and
MedQuAD and on BANKING77; the figures are those of the other halves. None was chosen on XQuAD. The
other half of GSM8K was measured with several settings, of which the chosen half decided.
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
_CHOSEN_ON = ("MMLU", "TruthfulQA", "MedQuAD")
"""Domains of which one half was used to choose a threshold."""
_SIMILARITY = DecontaminateStep.model_fields["similarity"].default


def is_for_choosing(text: str) -> bool:
    """Return True for the half of the texts on which settings may be chosen."""
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 0


def edited(text: str, draw: random.Random) -> str:
    """Return a text with 5 % of its words replaced by other words of it."""
    words = text.split()
    return " ".join(draw.choice(words) if draw.random() < _EDITED_SHARE else w for w in words)


def edited_with(words: Sequence[str], text: str, draw: random.Random) -> str:
    """Return a text with 5 % of its words replaced.

    Args:
        words: Words that take their place.
        text: The text.
        draw: Source of random numbers.
    """
    return " ".join(
        draw.choice(words) if draw.random() < _EDITED_SHARE else w for w in text.split()
    )


def misspelled(text: str, draw: random.Random) -> str:
    """Return a text with two neighbouring letters exchanged in 5 % of its words."""
    words = text.split()
    for number, word in enumerate(words):
        if len(word) > 3 and draw.random() < _EDITED_SHARE:
            at = draw.randrange(len(word) - 1)
            words[number] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def share_found(rule: Decontamination, texts: Sequence[str]) -> float:
    """Return the share of prompts in which an item is found."""
    rows = [PreparedRow(str(n), "", "prompt", {"prompt": text}) for n, text in enumerate(texts)]
    return share_of_rows(rule, rows)


def share_of_rows(rule: Decontamination, rows: Sequence[PreparedRow]) -> float:
    """Return the share of rows in which an item is found."""
    found = 0
    for start in range(0, len(rows), 64):
        found += sum(bool(one.reasons) for one in rule.examine_all(rows[start : start + 64]))
    return found / len(rows)


def questions(data: Path) -> dict[str, list[str]]:
    """Return the questions of each domain."""
    with (data / "eval/truthfulqa.csv").open(newline="") as stream:
        truthful = [row["Question"] for row in csv.DictReader(stream)]
    medical = pq.read_table(data / "sft/medquad_qa.parquet").to_pylist()
    other = pq.read_table(data / "multilingual/xquad.parquet").to_pylist()
    return {
        "GSM8K test": [row["question"] for row in _json_lines(data / "eval/gsm8k_test.jsonl")],
        "MMLU": [row["question"] for row in pq.read_table(data / "eval/mmlu.parquet").to_pylist()],
        "TruthfulQA": truthful,
        "MedQuAD": [row["instruction"] for row in medical],
        "XQuAD": [row["question"] for row in other if row["lang"] == "en"],
    }


def _json_lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in text.splitlines()]


def _rule(texts: Sequence[str], similarity: float | None = _SIMILARITY) -> Decontamination:
    items = [BenchmarkItem(str(n), text, "") for n, text in enumerate(dict.fromkeys(texts))]
    return Decontamination(items, similarity)


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
    return [*figures, *_answer_figures(data), *_speed_figures(data, of_domain)]


def _domain_figures(
    domain: str, texts: Sequence[str], of_domain: dict[str, list[str]]
) -> list[Figure]:
    """Return recall of a domain's own questions, and false hits of other questions.

    Args:
        domain: Name of the domain.
        texts: Its questions.
        of_domain: Questions of all domains.
    """
    rule = _rule(texts)
    measured = sorted(set(texts))
    if domain in _CHOSEN_ON:
        measured = [text for text in measured if not is_for_choosing(text)]
    asked = random.Random(1).sample(measured, min(300, len(measured)))
    foreign = [word for text in measured for word in text.split()]
    strangers = [text for name, other in of_domain.items() if name != domain for text in other]
    strangers = random.Random(3).sample(strangers, 1_000)
    how = f"{len(asked)} questions of {domain}"
    replaced, others, typos = (random.Random(seed) for seed in (2, 4, 5))
    edits = {
        "exact": asked,
        "5 % of words changed": [edited(text, replaced) for text in asked],
        "5 % replaced by words of other questions":
            [edited_with(foreign, text, others) for text in asked],
        "5 % misspelled": [misspelled(text, typos) for text in asked],
    }  # fmt: skip
    figures = [
        Figure("decontaminate", f"recall, {kind}, {domain}", "≥ 0.98" if n < 2 else "",
               f"{share_found(rule, made):.3f}", how)
        for n, (kind, made) in enumerate(edits.items())
    ]  # fmt: skip
    mixed = random.Random(8).sample(measured, len(measured))
    indexed, rest = mixed[::2], mixed[1::2]
    return [
        *figures,
        Figure("decontaminate", f"false hits, {domain}", "≤ 0.1 %",
               f"{share_found(rule, strangers):.2%}", "1,000 questions of the other domains"),
        Figure("decontaminate", f"false hits, other questions of {domain}", "",
               f"{share_found(_rule(indexed), rest):.2%}",
               f"{len(rest)} questions, against an index of {len(indexed)} others"),
    ]  # fmt: skip


def _answer_figures(data: Path) -> list[Figure]:
    """Return the recall of questions of MedQuAD with their answers, both edited."""
    rows = pq.read_table(data / "sft/medquad_qa.parquet").to_pylist()
    items = [BenchmarkItem(str(n), row["instruction"], row["output"]) for n, row in enumerate(rows)]
    draw = random.Random(6)
    asked = [
        PreparedRow(
            item.id, "", "prompt_completion",
            {"prompt": edited(item.question, draw), "completion": edited(item.answer, draw)},
        )
        for item in draw.sample(items, 300)
    ]  # fmt: skip
    found = share_of_rows(Decontamination(items, _SIMILARITY), asked)
    return [
        Figure("decontaminate", "recall, 5 % of words changed, MedQuAD with answers", "≥ 0.98",
               f"{found:.3f}", "300 rows of MedQuAD")
    ]  # fmt: skip


def _speed_figures(data: Path, of_domain: dict[str, list[str]]) -> list[Figure]:
    """Return the speed on documents, with and without the search for edited copies."""
    rows = pq.read_table(data / "sft/medquad_qa.parquet").to_pylist()[:600]
    documents = [PreparedRow(str(n), "", "text", {"text": r["output"]}) for n, r in enumerate(rows)]
    items = [text for name in ("GSM8K test", "MMLU", "TruthfulQA") for text in of_domain[name]]
    size = sum(len(row.columns["text"].encode()) for row in documents) // len(documents)
    how = f"{len(documents)} answers of MedQuAD, {size:,} bytes on average; {len(items):,} items"
    figures = []
    for similarity, name in ((_SIMILARITY, "all searches"), (None, "copies and edits only")):
        rule = _rule(items, similarity)
        start = time.process_time()
        share_of_rows(rule, documents)
        speed = len(documents) / (time.process_time() - start)
        figures.append(Figure("decontaminate", f"documents/s, {name}", "", f"{speed:,.0f}", how))
    return figures


def main() -> None:
    """Measure and publish."""
    publish("contamination", _figures(data_folder(__doc__)), ("scikit-learn",))


if __name__ == "__main__":
    main()
