"""The memory of a micro-batch is measured on the step that will be trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.run_commands import changed
from training.config.load import parse_job
from training.data.collators.sequences import SequenceCollator
from training.models.fused_log_probs import add_next_token_log_probs
from training.models.worst_case_batch import worst_case_loss

CPU = torch.device("cpu")


@pytest.fixture
def model(tiny_model: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="sdpa")
    add_next_token_log_probs(model)
    return model


def loss_of(job: dict[str, Any], model: Any, rows: int = 2) -> torch.Tensor:
    parsed = parse_job(job, "test")
    return worst_case_loss(parsed, model, SequenceCollator(0), CPU, 64, rows)


def saved_bytes(forward: Any) -> int:
    """Return the bytes that a forward pass keeps for its backward pass, each storage once."""
    storages: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = forward()
    assert loss.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_layers_compute_in_the_precision_of_the_job(
    document: dict[str, Any], model: Any, precision: str
) -> None:
    seen = []
    model.model.layers[0].mlp.down_proj.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    loss_of(changed(document, precision=precision), model)
    assert seen == [torch.bfloat16 if precision == "bf16" else torch.float32]


def test_layers_are_checkpointed_if_the_job_does(document: dict[str, Any], model: Any) -> None:
    jobs = [changed(document, train={"gradient_checkpointing": on}) for on in (False, True)]
    plain, checkpointed = (saved_bytes(partial(loss_of, job, model)) for job in jobs)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert checkpointed - weights < (plain - weights) / 3
    # The trainer decides again: the measurement must not change its state.
    assert not model.is_gradient_checkpointing


def test_gradients_are_those_of_the_plain_step(document: dict[str, Any], model: Any) -> None:
    gradients = []
    for on in (False, True):
        model.zero_grad()
        loss_of(changed(document, train={"gradient_checkpointing": on}), model).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)
