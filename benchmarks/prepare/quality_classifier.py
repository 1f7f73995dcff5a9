"""Accuracy of the quality classifier on rows that it has not seen, against what its report says.

The features and the strength of the regularization were chosen on Taskmaster. Rows of a
conversation, a book or a question are in one part only.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow.parquet as pq

from benchmarks.prepare.results_page import Figure, data_folder, publish
from preparation.steps.quality_classifier.accuracy import auc, auc_interval
from preparation.steps.quality_classifier.model import features, scores
from preparation.steps.quality_classifier.section import QualityClassifierStep
from preparation.steps.quality_classifier.training import QualityModel, train

Sides: TypeAlias = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Good and bad rows."""
_CHARACTERS = 1_500


def _passages(texts: Sequence[str], step: int) -> list[dict[str, Any]]:
    return [
        {"text": text[start : start + _CHARACTERS]}
        for text in texts
        for start in range(0, max(1, len(text) - _CHARACTERS), step)
    ]


def prose_and_code(data: Path) -> tuple[Sides, Sides]:
    """Return passages of three books and PEPs to learn from, of other books and code to test."""
    books = pq.read_table(data / "pretrain/standard_ebooks.parquet").to_pylist()
    titles = sorted({book["title"] for book in books})
    learned = [book["text"] for book in books if book["title"] in titles[:3]]
    others = [book["text"] for book in books if book["title"] not in titles[:3]]
    peps = [row["text"] for row in _lines(data / "domain/python_peps.jsonl.gz")]
    code = [row["text"] for row in _lines(data / "domain/code_python.jsonl.gz")]
    return (
        (_passages(learned, 8_000), _passages(peps, 12_000)),
        (_passages(others, 8_000), _passages(code, 4_000)),
    )


def dialogue_turns(data: Path) -> tuple[Sides, Sides]:
    """Return turns of assistants that people found right and wrong (Taskmaster)."""
    rows = _lines(data / "preference/taskmaster4_reward_binary.jsonl.gz")
    right, wrong = ({row["completion"] for row in rows if row["label"] is k} for k in (True, False))
    rows = [row for row in rows if row["completion"] not in right & wrong]
    parts: tuple[Sides, Sides] = (([], []), ([], []))
    for row in rows:
        example = {"text": row["completion"]}
        opening = json.dumps(row["prompt"][:2]) if row["prompt"] else row["id"]
        half = sum(opening.encode()) % 2
        parts[half][0 if row["label"] else 1].append(example)
    return parts


def preferred_answers(data: Path) -> tuple[Sides, Sides]:
    """Return the preferred and the other answers to questions (QA feedback)."""
    rows = pq.read_table(data / "preference/qa_feedback_pairs.parquet").to_pylist()
    parts: tuple[Sides, Sides] = (([], []), ([], []))
    chosen, rejected = ({row[name] for row in rows} for name in ("chosen", "rejected"))
    seen: set[str] = set()
    for row in rows:
        half = sum(row["prompt"].encode()) % 2
        for side, name in enumerate(("chosen", "rejected")):
            if row[name] not in seen and row[name] not in chosen & rejected:
                seen.add(row[name])
                parts[half][side].append({"prompt": row["prompt"], "completion": row[name]})
    return parts


def _lines(path: Path) -> list[Any]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def trained(sides: Sides, texts: Literal["all", "answers"]) -> QualityModel:
    """Return the classifier of good and bad rows.

    Args:
        sides: The rows.
        texts: Which texts are compared.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("good.jsonl", "bad.jsonl")]
        for file, rows in zip(files, sides, strict=True):
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        good, bad = map(str, files)
        return train(
            QualityClassifierStep(step="quality_classifier", good=(good,), bad=(bad,), texts=texts)
        )


def _text(row: dict[str, Any], texts: Literal["all", "answers"]) -> str:
    return str(row["completion" if texts == "answers" else "text"])


def held_out(
    model: QualityModel, sides: Sides, texts: Literal["all", "answers"]
) -> tuple[Any, Any]:
    """Return the scores of good and of bad rows.

    Args:
        model: The classifier.
        sides: The rows.
        texts: Which texts are compared.
    """
    good, bad = (
        scores(model.weights, features([_text(row, texts) for row in rows])) for rows in sides
    )
    return good, bad


def figures_of(
    name: str, parts: tuple[Sides, Sides], texts: Literal["all", "answers"]
) -> list[Figure]:
    """Return the figures of a set.

    Args:
        name: Name of the set.
        parts: Rows to learn from, and rows to test.
        texts: Which texts are compared.
    """
    learned, tested = parts
    model = trained(learned, texts)
    good, bad = held_out(model, tested, texts)
    value = auc(good, bad)
    low, high = auc_interval(value, len(good), len(bad))
    reported = model.facts["auc"]
    how = (
        f"{name}: learned from {model.facts['good']:,} good and {model.facts['bad']:,} bad, "
        f"tested on {len(good):,} and {len(bad):,}"
    )
    cut = 0.5
    kept, removed = float(np.mean(good >= cut)), float(np.mean(bad < cut))

    def figure(measure: str, measured: str) -> Figure:
        return Figure("quality_classifier", measure, "", measured, how)

    return [
        figure("AUC, unseen rows (95 %)", f"{value:.3f} ({low:.3f}–{high:.3f})"),
        figure(
            "AUC as its report says (95 %)",
            f"{reported[0]:.3f} ({reported[1]:.3f}–{reported[2]:.3f})",
        ),
        figure("good kept / bad removed at 0.5, unseen rows", f"{kept:.3f} / {removed:.3f}"),
    ]


def speed(model: QualityModel, rows: Sequence[dict[str, Any]]) -> float:
    """Return how many rows are scored per second of CPU time."""
    texts = [row["text"] for row in rows]
    begun = time.process_time()
    for start in range(0, len(texts), 64):
        scores(model.weights, features(texts[start : start + 64]))
    return len(texts) / (time.process_time() - begun)


def main() -> None:
    """Measure and publish."""
    data = data_folder(__doc__)
    prose = prose_and_code(data)
    figures = figures_of("prose (books) against PEPs; tested on other books and code", prose, "all")
    turns = dialogue_turns(data)
    figures += figures_of("turns that people found right or wrong (Taskmaster)", turns, "all")
    few: Sides = (prose[0][0][::9][:60], prose[0][1][::9][:60])
    good, bad = held_out(trained(few, "all"), prose[1], "all")
    figures.append(
        Figure(
            "quality_classifier", "AUC, unseen rows", "", f"{auc(good, bad):.3f}",
            f"books and PEPs: learned from {len(few[0])} good and {len(few[1])} bad examples only",
        )
    )  # fmt: skip
    answers = preferred_answers(data)
    figures += figures_of("preferred and other answers to a question (QA feedback)", answers,
                          "answers")  # fmt: skip
    rate = speed(trained(few, "all"), prose[1][0])
    figures.append(
        Figure("quality_classifier", "rows/s", "≥ 500", f"{rate:,.0f}", "passages of 1.5 KB")
    )
    publish("quality_classifier", figures, ("scikit-learn",))


if __name__ == "__main__":
    main()
