"""Recall, precision and speed of the step `personal_data`.

The sets are those of `preparation.recognizer.training.corpora`. Settings are chosen on the part
`choose`; the figures are those of the part `report`, whose templates and notes were never trained
on.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.prepare.results_page import Figure, data_folder, publish
from preparation.recognizer.kinds import IDENTIFIERS, KINDS, Kind
from preparation.recognizer.recognizer import Recognizer
from preparation.recognizer.training import corpora
from preparation.recognizer.training.corpora import Part
from preparation.recognizer.training.corpus import AnnotatedText, Span
from preparation.rows import PreparedRow
from preparation.steps.personal_data import PersonalDataStep
from preparation.steps.personal_data.rule import PersonalDataRule
from preparation.steps.step import Finding

COVERED = 0.9
HELD_OUT = Path(__file__).parent / "data/personal_data_held_out.jsonl"
DIRECT: tuple[Kind, ...] = ("email", "card", "iban", "ssn", "ip")


@dataclass(slots=True)
class Score:
    """Counts of marked and predicted spans.

    A marked span is found if 90 % of its characters are covered. A predicted span is right if
    more than half of its characters are in marked spans of any kind.
    """

    marked: Counter[Kind] = field(default_factory=Counter)
    found: Counter[Kind] = field(default_factory=Counter)
    predicted: Counter[Kind] = field(default_factory=Counter)
    right: Counter[Kind] = field(default_factory=Counter)

    def add(self, example: AnnotatedText, findings: Iterable[Finding]) -> None:
        """Count the spans of one text."""
        text = example.text
        truth, covered = bytearray(len(text)), bytearray(len(text))
        for start, end in [*(span[:2] for span in example.spans), *example.others]:
            truth[start:end] = b"\1" * (end - start)
        for finding in findings:
            length = finding.end - finding.start
            covered[finding.start : finding.end] = b"\1" * length
            self.predicted[finding.kind] += 1  # type: ignore[index]  # kinds of the step
            solid = [i for i in range(finding.start, finding.end) if not text[i].isspace()]
            if sum(truth[i] for i in solid) > len(solid) / 2:
                self.right[finding.kind] += 1  # type: ignore[index]  # kinds of the step
        for span in example.spans:
            self.marked[span.kind] += 1
            if sum(covered[span.start : span.end]) >= COVERED * (span.end - span.start):
                self.found[span.kind] += 1

    def recall(self, kinds: Iterable[Kind] = KINDS) -> float:
        """Return the share of the marked spans of some kinds that was found."""
        kinds = tuple(kinds)
        return _share(sum(self.found[k] for k in kinds), sum(self.marked[k] for k in kinds))

    def precision(self, kinds: Iterable[Kind] = KINDS) -> float:
        """Return the share of the predicted spans of some kinds that is right."""
        kinds = tuple(kinds)
        return _share(sum(self.right[k] for k in kinds), sum(self.predicted[k] for k in kinds))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def score(rule: PersonalDataRule, examples: Iterable[AnnotatedText]) -> Score:
    """Score a rule on marked texts."""
    result = Score()
    rows = [
        (example, PreparedRow(str(i), "set", "text", {"text": example.text}))
        for i, example in enumerate(examples)
    ]
    examinations = rule.examine_all([row for _, row in rows])
    for (example, _), examination in zip(rows, examinations, strict=True):
        result.add(example, examination.findings)
    return result


def presidio(folder: Path, part: Part) -> list[AnnotatedText]:
    """Return the rows of a part of Presidio's set, with the kinds of this project."""
    return [_with_our_kinds(row) for of_row, row in corpora.presidio(folder) if of_row == part]


def _with_our_kinds(row: Mapping[str, Any]) -> AnnotatedText:
    kinds = corpora.KIND_OF_PRESIDIO
    spans = tuple(
        Span(span["start"], span["end"], kinds[span["type"]])
        for span in row["spans"]
        if span["type"] in kinds
    )
    others = ((s["start"], s["end"]) for s in row["spans"] if s["type"] not in kinds)
    return AnnotatedText(row["text"], spans, tuple(others))


def meddocan(folder: Path, part: Part) -> list[AnnotatedText]:
    """Return the clinical notes of a part."""
    return [note for of_note, note in corpora.meddocan(folder) if of_note == part]


def held_out() -> list[AnnotatedText]:
    """Return texts of templates that were never trained on, with made-up values."""
    rows = [json.loads(line) for line in HELD_OUT.read_text("utf-8").splitlines()]
    return [AnnotatedText(row["text"], tuple(Span(*span) for span in row["spans"])) for row in rows]


def documents_per_second(rule: PersonalDataRule, texts: Sequence[str]) -> float:
    """Return the texts per CPU second."""
    rows = [PreparedRow(str(i), "set", "text", {"text": text}) for i, text in enumerate(texts)]
    rule.examine_all(rows[:20])
    start = time.process_time()
    rule.examine_all(rows)
    return len(rows) / (time.process_time() - start)


def by_kind(title: str, result: Score) -> None:
    """Print recall and precision by kind."""
    print(f"\n{title}")
    print(f"{'kind':16}{'marked':>8}{'recall':>8}{'found':>8}{'precision':>11}")
    for kind in KINDS:
        if result.marked[kind] or result.predicted[kind]:
            print(
                f"{kind:16}{result.marked[kind]:8}{result.recall([kind]):8.3f}"
                f"{result.predicted[kind]:8}{result.precision([kind]):11.3f}"
            )


def measure(folder: Path, recognizer: Recognizer, part: Part) -> dict[str, Score]:
    """Score the identifiers of Presidio's set and of the held-out templates, and MEDDOCAN's kinds.

    Args:
        folder: Folder of the published sets.
        recognizer: Recognizer.
        part: Part of the sets.
    """
    identifiers = PersonalDataRule(PersonalDataStep(step="personal_data"), recognizer)
    every = PersonalDataRule(PersonalDataStep(step="personal_data", kinds=KINDS), recognizer)
    return {
        "presidio": score(identifiers, presidio(folder, part)),
        "held out": score(identifiers, held_out()),
        "meddocan": score(every, meddocan(folder, part)),
    }


def main() -> None:
    """Measure and publish."""
    folder = data_folder(__doc__) / "pii"
    recognizer = Recognizer()
    scores = measure(folder, recognizer, "report")
    for name, result in scores.items():
        by_kind(name, result)
    notes = [note.text for part, note in corpora.meddocan(folder) if part != "train"]
    texts = [text[:1536] for text in notes if len(text) >= 1536]
    rule = PersonalDataRule(PersonalDataStep(step="personal_data"), recognizer)
    speed = documents_per_second(rule, texts)
    rows, notes_read = len(presidio(folder, "report")), len(meddocan(folder, "report"))
    publish("personal_data", list(_figures(scores, speed, rows, notes_read)), ("numpy", "faker"))


def _figures(scores: Mapping[str, Score], speed: float, rows: int, notes: int) -> Iterator[Figure]:
    how = {
        "presidio": f"presidio-research, {rows:,} rows of unseen templates",
        "held out": f"{len(held_out())} texts of held-out templates of this project",
        "meddocan": f"MEDDOCAN, {notes} unseen clinical notes in Spanish, all kinds",
    }
    bars = {
        "presidio": ("0.95", "0.90"),
        "held out": ("0.95", "0.90"),
        "meddocan": ("0.95", "0.95"),
    }
    step = "personal_data"
    for name, result in scores.items():
        kinds = KINDS if name == "meddocan" else IDENTIFIERS
        yield Figure(
            step, f"recall, {name}", f"≥ {bars[name][0]}", f"{result.recall(kinds):.3f}", how[name]
        )
        yield Figure(
            step, f"precision, {name}", f"≥ {bars[name][1]}", f"{result.precision():.3f}", how[name]
        )
    direct = scores["presidio"]
    forms = "e-mail, card, IBAN, SSN and IP in the same rows as presidio"
    yield Figure(step, "recall, fixed forms", "≥ 0.99", f"{direct.recall(DIRECT):.3f}", forms)
    yield Figure(step, "precision, fixed forms", "≥ 0.99", f"{direct.precision(DIRECT):.3f}", forms)
    yield Figure(step, "texts/s", "≥ 80", f"{speed:,.0f}", "clinical notes cut to 1,536 characters")


if __name__ == "__main__":
    main()
