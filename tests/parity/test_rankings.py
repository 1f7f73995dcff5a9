"""Reward models from rankings: their loss by hand, and micro-batches that change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.factories import write_jsonl
from tests.preference_rows import preference_job, preference_rows
from tests.run_commands import changed, train_here
from training.config.data import Source
from training.data.readers.records import SourceRecord
from training.data.schema.schema_reader import SchemaReader
from training.data.tokenization.row_tokenizer import RowTokenizer


def rankings(number: int) -> list[dict[str, Any]]:
    """Return rankings of two, three and four answers: a sentence and worse orders of its words."""
    rows = []
    for index, row in enumerate(preference_rows(number)):
        words = row["rejected"].split()
        answers = [row["chosen"], row["rejected"], " ".join(sorted(words)), " ".join(words[::-1])]
        answers = list(dict.fromkeys(answers))[: 2 + index % 3]
        ranks = [1, 2, 3, 3][: len(answers)]
        rows.append({"prompt": row["prompt"], "answers": answers, "ranks": ranks})
    return rows


def job(model: Path, folder: Path, **sections: Any) -> dict[str, Any]:
    rows = rankings(60)
    train = write_jsonl(folder / "train.jsonl", rows[:40])
    held_out = write_jsonl(folder / "held-out.jsonl", rows[40:])
    document = preference_job(model, train, "reward")
    document["data"]["validation"] = {"source": str(held_out)}
    document["train"]["max_steps"] = 4
    return changed(document, **sections)


def test_a_ranking_counts_as_one_however_many_answers_it_has(
    tiny_model: Path, tmp_path: Path
) -> None:
    run = train_here(job(tiny_model, tmp_path), tmp_path / "whole")
    micro = train_here(job(tiny_model, tmp_path, train={"micro_batch_size": 1}), tmp_path / "micro")
    assert micro.losses == pytest.approx(run.losses, abs=1e-5)
    assert micro.grad_norms == pytest.approx(run.grad_norms, rel=1e-4)

    measured = json.loads((run.path / "evaluation.json").read_text())["after"]["validation"]
    losses, pairs = by_hand(run.path / "model", tmp_path / "held-out.jsonl")
    assert measured["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert measured["rows"] == pairs > len(losses)


def by_hand(folder: Path, rows: Path) -> tuple[list[float], int]:
    """Return the mean loss of the pairs of each ranking, with plain Transformers."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = RowTokenizer.from_tokenizer(
        tokenizer, chat_template=None, want="preference", max_length=96, weighs_pairs=True
    )
    reader, losses, count = SchemaReader(Source(source="x"), "preference"), [], 0
    for line in rows.read_text().splitlines():
        (pairs,) = tokens([reader.read(SourceRecord("x:1", json.loads(line)))])
        assert isinstance(pairs, list)
        total = 0.0
        for pair in pairs:
            scores = []
            for ids in (pair.input_ids[: pair.split], pair.input_ids[pair.split :]):
                with torch.no_grad():
                    scores.append(model(torch.tensor(ids[None]).long()).logits.squeeze())
            total -= float(torch.nn.functional.logsigmoid(scores[0] - scores[1]))
        losses.append(total / len(pairs))
        count += len(pairs)
    return losses, count
