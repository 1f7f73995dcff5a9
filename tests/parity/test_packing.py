"""Documents that share a row do not see each other, and the step is the same as without packing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.run_commands import Run, changed, read_weights, train_here
from training.config.load import parse_job
from training.data.collators.sequences import SequenceCollator
from training.data.prepare import prepare

# One step of plain SGD moves every weight by its gradient times the learning rate.
RATE = 0.5
ONE_STEP = {
    "max_steps": 1,
    "optimizer": "sgd",
    "learning_rate": RATE,
    "lr_scheduler": "constant",
    "warmup": 0,
    "max_grad_norm": 0,
}


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def one_step(document: dict[str, Any], tokenizer: Any, path: Path, *, packing: bool) -> Run:
    """Take one step on all documents at once, in micro-batches of four rows at most."""
    job = changed(document, data={"packing": packing, "max_length": 128, "limit": 64})
    rows = prepare(
        parse_job(job, "test"), tokenizer, cache_dir=path / "cache", run_dir=path / "data"
    ).train
    job["train"] = {**ONE_STEP, "global_batch_size": len(rows), "micro_batch_size": 1}
    return train_here(job, path / "run")


@pytest.fixture
def steps(document: dict[str, Any], tokenizer: Any, tmp_path: Path) -> dict[bool, Run]:
    return {
        packing: one_step(document, tokenizer, tmp_path / str(packing), packing=packing)
        for packing in (False, True)
    }


def test_packed_step_is_the_unpacked_step(steps: dict[bool, Run], tiny_model: Path) -> None:
    apart, packed = steps[False], steps[True]
    ids = [sorted(run.samples[0]["ids"]) for run in (apart, packed)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 64
    assert packed.steps[0]["supervised_tokens"] == apart.steps[0]["supervised_tokens"]
    assert packed.losses[0] == pytest.approx(apart.losses[0], abs=1e-5)
    assert packed.grad_norms[0] == pytest.approx(apart.grad_norms[0], rel=1e-5)
    start = read_weights(tiny_model)
    for name, before in start.items():
        gradients = [(before - run.weights[name]) / RATE for run in (apart, packed)]
        assert gradients[0].abs().max() > 1e-5, f"{name} has no gradient"
        assert (gradients[0] - gradients[1]).abs().max() < 1e-5, name


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    lengths = (17, 5, 23, 1, 9)
    return [torch.randint(3, 300, (n,), generator=generator).tolist() for n in lengths]


def packed_row(documents: list[list[int]]) -> dict[str, Any]:
    return {
        "input_ids": [token for document in documents for token in document],
        "labels": [token for document in documents for token in document],
        "seq_lengths": [len(document) for document in documents],
        "ids": [str(index) for index in range(len(documents))],
    }


def logits(model: Any, collate: SequenceCollator, documents: list[list[int]]) -> torch.Tensor:
    batch = collate([packed_row(documents)])
    with torch.no_grad():
        found: torch.Tensor = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits[0]
    return found


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_logits_are_those_of_each_document_alone(
    tiny_model: Path, rows: list[list[int]], attention: str
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation=attention).eval()
    packed = logits(model, SequenceCollator(0, packed=True, max_length=64), rows)
    start = 0
    for document in rows:
        alone = logits(model, SequenceCollator(0), [document])
        assert (packed[start : start + len(document)] - alone).abs().max() < 1e-5
        start += len(document)


def test_a_changed_neighbour_changes_nothing(tiny_model: Path, rows: list[list[int]]) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="sdpa").eval()
    collate = SequenceCollator(0, packed=True, max_length=64)
    before = logits(model, collate, rows)
    other = [[token % 300 + 3 for token in document] for document in rows]
    after = logits(model, collate, [other[0], rows[1], *other[2:]])
    own = slice(len(rows[0]), len(rows[0]) + len(rows[1]))
    assert torch.equal(before[own], after[own])
    assert not torch.allclose(before[: len(rows[0])], after[: len(rows[0])])
    assert not torch.allclose(before[own.stop :], after[own.stop :])


def test_no_label_crosses_from_one_document_to_the_next(rows: list[list[int]]) -> None:
    labels = SequenceCollator(0, packed=True, max_length=64)([packed_row(rows)])["labels"][0]
    start = 0
    for document in rows:
        assert labels[start] == -100
        assert labels[start + 1 : start + len(document)].tolist() == document[1:]
        start += len(document)
    assert (labels[start:] == -100).all()
