"""Recall and precision of the model that ships, on text that it was not trained on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.prepare import personal_data as benchmark
from preparation.recognizer.kinds import IDENTIFIERS, KINDS
from preparation.recognizer.recognizer import Recognizer
from preparation.recognizer.training import corpora
from preparation.recognizer.training.__main__ import HELD_OUT_TEXTS
from preparation.recognizer.training.corpus import TEMPLATES, AnnotatedText, templates
from preparation.recognizer.training.scoring import score
from preparation.steps.personal_data import PersonalDataStep
from preparation.steps.personal_data.rule import PersonalDataRule

CORPORA = Path(__file__).parents[5] / "shared/data/pii"
needs_corpora = pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no corpora in {CORPORA}")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer()


@pytest.fixture(scope="module")
def identifiers(recognizer: Recognizer) -> PersonalDataRule:
    return PersonalDataRule(PersonalDataStep(step="personal_data"), recognizer)


TRAINED = tuple(path.stem for path in TEMPLATES.glob("*.txt") if path.stem != "heldout")


def _phrases(template: str, length: int = 7) -> set[str]:
    """Return all words in a row of a template, choices and slots apart; all of a short one."""
    words = re.findall(r"\w+", re.sub(r"\{\w+\}|⟨[^⟩]*⟩", " ", template).lower())
    ends = range(min(length, len(words)), len(words) + 1) if words else ()
    return {" ".join(words[max(0, end - length) : end]) for end in ends}


def _trained_phrases() -> set[str]:
    return {phrase for name in TRAINED for t in templates(name) for phrase in _phrases(t)}


def test_held_out_templates_are_not_trained_on() -> None:
    assert len(templates("heldout")) >= 60
    trained = _trained_phrases()
    assert not [t for t in templates("heldout") if _phrases(t) & trained]


@needs_corpora
def test_reported_templates_of_presidio_are_not_trained_on() -> None:
    trained = _trained_phrases()
    published = corpora.presidio_templates(CORPORA)
    trained |= {" ".join(re.findall(r"\w+", re.sub(r"\{\w+\}", " ", t.lower()))) for t in published}
    reported = {words for words, _ in corpora.presidio_examples(CORPORA, "report")}
    assert len(reported) > 30
    assert not [words for words in reported if _phrases(words) & trained]


def test_recall_and_precision_on_held_out_templates(identifiers: PersonalDataRule) -> None:
    result = benchmark.measured(identifiers, benchmark.held_out(), IDENTIFIERS)
    assert len(result.by_template) <= len(templates("heldout")) + 5, "texts know their templates"
    assert result.score.recall(IDENTIFIERS) >= 0.95
    assert result.score.precision() >= 0.95


@needs_corpora
def test_recall_and_precision_on_unseen_templates_of_presidio(
    identifiers: PersonalDataRule,
) -> None:
    examples = corpora.presidio_examples(CORPORA, "report")
    result = score(identifiers, (example for _, example in examples))
    assert result.recall(IDENTIFIERS) >= 0.91
    assert result.precision() >= 0.94
    assert result.recall(benchmark.DIRECT) >= 0.99
    assert result.precision(benchmark.DIRECT) >= 0.99


@needs_corpora
def test_recall_and_precision_on_unseen_clinical_notes(recognizer: Recognizer) -> None:
    rule = PersonalDataRule(PersonalDataStep(step="personal_data", kinds=KINDS), recognizer)
    result = score(rule, (note for _, note in benchmark.meddocan(CORPORA, "report")))
    assert result.recall() >= 0.95
    assert result.precision() >= 0.95


def test_text_without_personal_data_stays_as_it_is(identifiers: PersonalDataRule) -> None:
    """Fewer than one paragraph in fifty of Python's documentation has a finding; a few have IPs."""
    paragraphs = corpora.docstrings()[::HELD_OUT_TEXTS]
    result = score(identifiers, [AnnotatedText(paragraph, ()) for paragraph in paragraphs])
    assert result.predicted.total() - result.predicted["ip"] < len(paragraphs) / 50
