"""Recall, precision and speed of the step `personal_data`.

The sets are those of `preparation.recognizer.training.corpora`. Settings are chosen on the part
`choose`; the figures are those of the part `report`, whose templates and notes were never trained
on. Intervals are those of a bootstrap over templates.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.prepare.results_page import Figure, data_folder, publish
from evaluation.statistics.bootstrap import bootstrap_interval
from preparation.recognizer.kinds import IDENTIFIERS, KINDS, Kind
from preparation.recognizer.recognizer import Recognizer
from preparation.recognizer.training import corpora
from preparation.recognizer.training.corpora import Part
from preparation.recognizer.training.corpus import AnnotatedText, Span, literal_parts, templates
from preparation.recognizer.training.scoring import SpanScore, findings
from preparation.rows import PreparedRow
from preparation.steps.personal_data import PersonalDataStep
from preparation.steps.personal_data.rule import PersonalDataRule

HELD_OUT = Path(__file__).parent / "data/personal_data_held_out.jsonl"
DIRECT: tuple[Kind, ...] = ("email", "card", "iban", "ssn", "ip")
_STEP = "personal_data"
_LEAST_SPANS = 10
"""Marked spans from which a kind has a figure of its own."""


class MeasuredSet(NamedTuple):
    """Scores of a set.

    Attributes:
        by_template: Score of each template or document: texts of one template are alike, so that
            intervals must come from templates, not from texts.
        kinds: Kinds that count for recall.
    """

    by_template: Mapping[str, SpanScore]
    kinds: tuple[Kind, ...]

    @property
    def score(self) -> SpanScore:
        """Score of all templates together."""
        total = SpanScore()
        for one in self.by_template.values():
            for name in ("marked", "found", "predicted", "right"):
                getattr(total, name).update(getattr(one, name))
        return total

    def interval(self, part: str, whole: str, kinds: Sequence[Kind]) -> tuple[float, float]:
        """Return the 95 % interval of a share, by a bootstrap over templates.

        Args:
            part: Counts of the score above the line, such as `found`.
            whole: Counts below it.
            kinds: Kinds that are counted.
        """
        counts = [
            [sum(getattr(one, name)[k] for k in kinds) for name in (part, whole)]
            for one in self.by_template.values()
        ]
        with np.errstate(invalid="ignore"):
            low, high, _ = bootstrap_interval(
                np.array(counts, float), lambda sums: sums[..., 0] / sums[..., 1]
            )
        return low, high


def measured(
    rule: PersonalDataRule, examples: Iterable[tuple[str, AnnotatedText]], kinds: Sequence[Kind]
) -> MeasuredSet:
    """Score a rule on marked texts by template.

    Args:
        rule: Rule.
        examples: Name of the template or document and text.
        kinds: Kinds that count for recall.
    """
    names, texts = zip(*examples, strict=True)
    scores: defaultdict[str, SpanScore] = defaultdict(SpanScore)
    for name, (text, found) in zip(names, findings(rule, texts), strict=True):
        scores[name].add(text, found)
    return MeasuredSet(scores, tuple(kinds))


def meddocan(folder: Path, part: Part) -> list[tuple[str, AnnotatedText]]:
    """Return the clinical notes of a part, by number."""
    notes = [note for of_note, note in corpora.meddocan(folder) if of_note == part]
    return [(str(number), note) for number, note in enumerate(notes)]


def held_out() -> list[tuple[str, AnnotatedText]]:
    """Return texts of templates that were never trained on, with made-up values."""
    rows = [json.loads(line) for line in HELD_OUT.read_text("utf-8").splitlines()]
    return [
        (
            _template_of(row["text"]),
            AnnotatedText(row["text"], tuple(Span(*span) for span in row["spans"])),
        )
        for row in rows
    ]


def _template_of(text: str) -> str:
    return next((name for name, form in _held_out_forms().items() if form.fullmatch(text)), text)


@cache
def _held_out_forms() -> Mapping[str, re.Pattern[str]]:
    return {
        template: re.compile(".+".join(map(re.escape, literal_parts(template))), re.I | re.S)
        for template in templates("heldout")
    }


def documents_per_second(rule: PersonalDataRule, texts: Sequence[str]) -> float:
    """Return the texts per CPU second."""
    rows = [PreparedRow(str(i), "set", "text", {"text": text}) for i, text in enumerate(texts)]
    rule.examine_all(rows[:20])
    start = time.process_time()
    rule.examine_all(rows)
    return len(rows) / (time.process_time() - start)


def by_kind(title: str, result: SpanScore) -> None:
    """Print recall and precision by kind."""
    print(f"\n{title}")
    print(f"{'kind':16}{'marked':>8}{'recall':>8}{'found':>8}{'precision':>11}")
    for kind in KINDS:
        if result.marked[kind] or result.predicted[kind]:
            print(
                f"{kind:16}{result.marked[kind]:8}{result.recall([kind]):8.3f}"
                f"{result.predicted[kind]:8}{result.precision([kind]):11.3f}"
            )


def measure(folder: Path, recognizer: Recognizer, part: Part) -> dict[str, MeasuredSet]:
    """Score the identifiers of Presidio's set and of the held-out templates, and MEDDOCAN's kinds.

    Args:
        folder: Folder of the published sets.
        recognizer: Recognizer.
        part: Part of the sets.
    """
    identifiers = PersonalDataRule(PersonalDataStep(step="personal_data"), recognizer)
    every = PersonalDataRule(PersonalDataStep(step="personal_data", kinds=KINDS), recognizer)
    presidio = corpora.presidio_examples(folder, part)
    return {
        "presidio": measured(identifiers, presidio, IDENTIFIERS),
        "held out": measured(identifiers, held_out(), IDENTIFIERS),
        "meddocan": measured(every, meddocan(folder, part), KINDS),
    }


def main() -> None:
    """Measure and publish."""
    folder = data_folder(__doc__) / "pii"
    with threadpool_limits(1):  # as a worker of a preparation: the figures are those of one core
        recognizer = Recognizer()
        sets = measure(folder, recognizer, "report")
        for name, result in sets.items():
            by_kind(name, result.score)
        notes = [note.text for part, note in corpora.meddocan(folder) if part != "train"]
        texts = [text[:1536] for text in notes if len(text) >= 1536]
        rule = PersonalDataRule(PersonalDataStep(step="personal_data"), recognizer)
        speed = documents_per_second(rule, texts)
    rows = len(corpora.presidio_examples(folder, "report"))
    publish("personal_data", list(_figures(sets, speed, rows)), ("numpy", "faker"))


def _figures(sets: Mapping[str, MeasuredSet], speed: float, rows: int) -> Iterator[Figure]:
    count = {name: len(result.by_template) for name, result in sets.items()}
    how = {
        "presidio": f"presidio-research, {rows:,} rows of {count['presidio']} unseen templates",
        "held out": f"{len(held_out())} texts of {count['held out']} held-out templates of this "
        "project",
        "meddocan": f"MEDDOCAN, {count['meddocan']} unseen clinical notes in Spanish, all kinds",
    }
    bars = {"presidio": "0.90", "held out": "0.90", "meddocan": "0.95"}
    for name, result in sets.items():
        yield _recall(f"recall, {name}", "≥ 0.95", result, result.kinds, how[name])
        precision = _with_interval(
            result.score.precision(), result.interval("right", "predicted", KINDS)
        )
        yield Figure(_STEP, f"precision, {name}", f"≥ {bars[name]}", precision, how[name])
    direct = sets["presidio"].score
    forms = "e-mail, card, IBAN, SSN and IP in the same rows as presidio"
    yield Figure(_STEP, "recall, fixed forms", "≥ 0.99", f"{direct.recall(DIRECT):.3f}", forms)
    precision = f"{direct.precision(DIRECT):.3f}"
    yield Figure(_STEP, "precision, fixed forms", "≥ 0.99", precision, forms)
    for name in ("presidio", "held out"):
        marked = sets[name].score.marked
        for kind in (kind for kind in IDENTIFIERS if marked[kind] >= _LEAST_SPANS):
            spans = f"{marked[kind]} spans of {how[name]}"
            yield _recall(f"recall of {kind}, {name}", "–", sets[name], (kind,), spans)
    yield Figure(
        _STEP,
        "texts/s",
        "≥ 80",
        f"{speed:,.0f}",
        "clinical notes cut to 1,536 characters, one core",
    )


def _recall(
    measure: str, bar: str, result: MeasuredSet, kinds: tuple[Kind, ...], how: str
) -> Figure:
    interval = result.interval("found", "marked", kinds)
    return Figure(_STEP, measure, bar, _with_interval(result.score.recall(kinds), interval), how)


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f}–{interval[1]:.3f})"


if __name__ == "__main__":
    main()
