"""Recall and precision of the model that ships, on text that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.prepare import personal_data as benchmark
from preparation.recognizer.kinds import IDENTIFIERS, KINDS
from preparation.recognizer.recognizer import Recognizer
from preparation.recognizer.training import corpora
from preparation.recognizer.training.__main__ import HELD_OUT_TEXTS
from preparation.recognizer.training.corpus import TEMPLATES, templates
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


def test_held_out_templates_are_not_trained_on() -> None:
    trained = {
        template
        for path in TEMPLATES.glob("*.txt")
        if path.stem != "heldout"
        for template in templates(path.stem)
    }
    assert len(templates("heldout")) >= 60
    assert not trained & set(templates("heldout"))


def test_recall_and_precision_on_held_out_templates(identifiers: PersonalDataRule) -> None:
    result = benchmark.score(identifiers, benchmark.held_out())
    assert result.recall(IDENTIFIERS) >= 0.82
    assert result.precision() >= 0.92


@needs_corpora
def test_recall_and_precision_on_unseen_templates_of_presidio(
    identifiers: PersonalDataRule,
) -> None:
    result = benchmark.score(identifiers, benchmark.presidio(CORPORA, "report"))
    assert result.recall(IDENTIFIERS) >= 0.84
    assert result.precision() >= 0.90
    assert result.recall(benchmark.DIRECT) >= 0.99
    assert result.precision(benchmark.DIRECT) >= 0.99


@needs_corpora
def test_recall_and_precision_on_unseen_clinical_notes(recognizer: Recognizer) -> None:
    rule = PersonalDataRule(PersonalDataStep(step="personal_data", kinds=KINDS), recognizer)
    result = benchmark.score(rule, benchmark.meddocan(CORPORA, "report"))
    assert result.recall() >= 0.95
    assert result.precision() >= 0.95


def test_text_without_personal_data_stays_as_it_is(identifiers: PersonalDataRule) -> None:
    """Fewer than one paragraph in fifty of Python's documentation has a finding; a few have IPs."""
    paragraphs = corpora.docstrings()[::HELD_OUT_TEXTS]
    result = benchmark.score(
        identifiers, [benchmark.AnnotatedText(paragraph, ()) for paragraph in paragraphs]
    )
    assert result.predicted.total() - result.predicted["ip"] < len(paragraphs) / 50
