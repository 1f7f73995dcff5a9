"""Measurements of a base model: a real model on texts that it knows, and on others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from advice.base_probe import measure_base, probe_rows, template_for, why_not_measurable
from advice.dataset_profile import DatasetProfile, profile_dataset
from advice.row_scorer import LabelledTokens, RowScorer, score_sequences
from planning.hf_config import NamedShape, shape_named
from tests.factories import docstring_pairs, write_jsonl
from training.config.data import Source
from training.config.model import Model
from training.data.tokenization.token_rows import IGNORE


@pytest.fixture(scope="module")
def scorer(tiny_model: Path) -> RowScorer:
    return RowScorer.load(Model(source=str(tiny_model)), 256, None)


def profile(folder: Path, rows: list[Any]) -> DatasetProfile:
    return profile_dataset(Source(source=str(write_jsonl(folder / "rows.jsonl", rows))))


def test_scores_equal_a_plain_forward_pass(scorer: RowScorer) -> None:
    """Padding and batches change nothing; only labelled tokens count."""
    rows = [
        LabelledTokens([1, 7, 9, 30, 4], [IGNORE, IGNORE, 9, 30, 4]),
        LabelledTokens([1, 8, 5], [IGNORE, 8, 5]),
    ]
    for row, score in zip(rows, score_sequences(scorer.model, rows), strict=True):
        with torch.no_grad():
            logits = scorer.model(torch.tensor([row.ids])).logits[0, :-1]
        chosen = logits.log_softmax(-1).gather(1, torch.tensor(row.ids[1:])[:, None])[:, 0]
        counted = torch.tensor(row.labels[1:]) != IGNORE
        assert score.tokens == int(counted.sum())
        assert score.nats == pytest.approx(float(-chosen[counted].sum()), rel=1e-5)


def test_examples_precede_the_row_and_fit_the_context(scorer: RowScorer, tmp_path: Path) -> None:
    rows = scorer.encode(profile(tmp_path, docstring_pairs(40)).sample)
    examples = scorer.examples(rows[:5], rows[5:])
    longest = sorted(len(row.ids) for row in rows[5:])[int(0.9 * 34)]
    assert 0 < len(examples) <= 5
    assert sum(map(len, examples)) + longest <= 256
    ends = {scorer.rows.encoder.bos_id, scorer.rows.encoder.eos_id}
    assert not ends & {token for example in examples for token in example}
    plain = scorer.score(rows[5:], 500)
    prompted = scorer.score(rows[5:], 5000, examples)
    both = min(len(plain), len(prompted))
    assert [s.tokens for s in plain[:both]] == [s.tokens for s in prompted[:both]]
    assert [s.nats for s in plain[:both]] != [s.nats for s in prompted[:both]]


def test_a_domain_that_the_model_knows_is_nearer(scorer: RowScorer, tmp_path: Path) -> None:
    """A model after a few steps on a text reads more of its kind better than a random one."""
    text = "The brook runs to the river and the river runs to the sea. " * 30
    rows = [{"text": f"{text} {number}"} for number in range(12)]
    known = profile(tmp_path, rows)
    before = probe_rows(scorer, known, 600).bits_per_byte
    weights = {name: value.clone() for name, value in scorer.model.state_dict().items()}
    scorer.model.requires_grad_(True)
    optimizer = torch.optim.AdamW(scorer.model.parameters(), lr=3e-3)
    ids = torch.tensor([scorer.tokenizer(text)["input_ids"][:100]])
    for _ in range(20):
        scorer.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = probe_rows(scorer, known, 600)
    scorer.model.load_state_dict(weights)
    scorer.model.requires_grad_(False)
    assert before is not None and after.bits_per_byte is not None
    assert after.bits_per_byte < 0.5 * before
    assert after.domain_distance == pytest.approx(after.bits_per_byte / (after.compressed or 1))


def test_loss_of_answers_is_that_of_training(
    tiny_model: Path, tmp_path: Path, scorer: RowScorer
) -> None:
    measured = probe_rows(scorer, profile(tmp_path, docstring_pairs(60)), 3000)
    assert measured.answer_loss is not None and measured.few_shot_gain is not None
    # Random weights: about the logarithm of the vocabulary, with or without examples.
    assert measured.answer_loss == pytest.approx(math.log(320), rel=0.35)
    assert abs(measured.few_shot_gain) < 0.2


def test_a_model_that_cannot_be_run_here(tiny_model: Path, tmp_path: Path) -> None:
    model = Model(source=str(tiny_model))
    shape = shape_named(NamedShape(model.source, None, "test"))
    assert "allow that with --measure-seconds" in why_not_measurable(model, shape, 1e-9)
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    rows = profile(tmp_path, docstring_pairs(5))
    measured = measure_base(Model(source=str(tmp_path)), shape, rows, 20)
    assert measured.skipped.endswith("has no weights on this machine")
    assert measured.domain_distance is None


def test_conversations_without_a_template_are_rendered_as_chatml(
    tiny_model: Path, tmp_path: Path
) -> None:
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    model = Model(source=str(tiny_model))
    assert template_for(model, profile(tmp_path, [{"messages": messages}] * 3)) == "chatml"
    assert template_for(model, profile(tmp_path, docstring_pairs(3))) is None
