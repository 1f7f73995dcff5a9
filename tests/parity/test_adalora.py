"""AdaLoRA allocates ranks as PEFT's own loop does, and resumes from a checkpoint exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.parity.test_soft_prompts import fresh
from tests.run_commands import changed, read_weights, train_here
from training.config.load import parse_job
from training.errors import JobError, RunError
from training.trainer.step_hooks import get_step_hook

STEPS = 10
ADALORA = {
    "kind": "adalora", "r": 2, "init_r": 4, "alpha": 16, "delta_t": 2, "tinit": 2, "tfinal": "30%",
}  # fmt: skip


def test_steps_are_those_of_peft(document: dict[str, Any]) -> None:
    """The same weights after ten steps, with the penalty, the scores and the masks of PEFT."""
    _, ours = fresh(document, ADALORA)
    config = AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=4, target_r=2, lora_alpha=16, target_modules="all-linear",
        deltaT=2, tinit=2, tfinal=3, total_step=STEPS,
    )  # fmt: skip
    base = AutoModelForCausalLM.from_pretrained(document["model"]["source"], dtype=torch.float32)
    theirs = get_peft_model(base, config)
    start = {name: p.detach().clone() for name, p in ours.named_parameters() if p.requires_grad}
    theirs.load_state_dict(start, strict=False)
    ids = torch.arange(4, 68).reshape(4, 16)
    step_hook = get_step_hook(ours)
    assert step_hook is not None
    step_hook.on_train_begin(STEPS)
    for model in (ours, theirs):
        learned = [p for p in model.parameters() if p.requires_grad]
        steps = torch.optim.AdamW(learned, lr=1e-2, weight_decay=0.0)
        for step in range(1, STEPS + 1):
            steps.zero_grad()
            if model is theirs:
                model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
                steps.step()
                model.base_model.update_and_allocate(step)
                continue
            logits = model(input_ids=ids, use_cache=False).logits
            torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
            ).backward()
            step_hook.add_gradients()
            steps.step()
            step_hook.on_optimizer_step(step)
    expected = dict(theirs.named_parameters())
    for name in start:
        found = ours.get_parameter(name).detach()
        assert torch.allclose(found, expected[name], rtol=1e-4, atol=1e-5), name
    values = [ours.get_parameter(name) for name in start if "lora_E" in name]
    assert sum(int((e != 0).sum()) for e in values) == 2 * len(values)


def test_what_updates_are_divided_by_does_not_learn(document: dict[str, Any]) -> None:
    """On a base in bf16 PEFT makes it a parameter like any other."""
    _, tuned = fresh({**document, "precision": "bf16"}, ADALORA)
    learned = {n.split(".")[-2] for n, p in tuned.named_parameters() if p.requires_grad}
    assert learned == {"lora_A", "lora_B", "lora_E"}


def test_ranks_fall_and_it_goes_on_as_if_never_stopped(
    document: dict[str, Any], tmp_path: Path
) -> None:
    """The checkpoint lies before ranks are settled; what is scored since the start counts."""
    job = changed(document, train={"learning_rate": 5e-2}, checkpoint={"every": "5 steps"})
    job["adapter"] = ADALORA
    run = train_here(job, tmp_path / "run")
    assert run.losses[-1] < run.losses[0] - 0.1
    ranks = [step["mean_rank"] for step in run.steps]
    assert ranks[:2] == [4, 4]
    assert ranks[-4:] == [2, 2, 2, 2]
    assert sorted(ranks, reverse=True) == ranks
    weights = run.weights
    kept = [int((e != 0).sum()) for name, e in weights.items() if "lora_E" in name]
    assert sum(kept) == 2 * len(kept)
    assert len(set(kept)) > 1, "every layer kept as much"
    for path in (run.path / "model", run.path / f"checkpoints/checkpoint-{STEPS}"):
        path.rename(tmp_path / f"old-{path.name}")
    again = train_here(job, run.path)
    assert again.weights.keys() == weights.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.weights.items())
    assert read_weights(tmp_path / "old-model").keys() == weights.keys()
    config = json.loads((run.path / "model/adapter_config.json").read_text())
    assert (config["total_step"], config["tinit"], config["tfinal"]) == (STEPS, 2, 3)


def test_micro_batches_add_up(document: dict[str, Any], tmp_path: Path) -> None:
    """The penalty counts once per step, however many micro-batches it has."""
    runs = {}
    for size in (8, 2):
        job = changed(document, train={"learning_rate": 1e-2, "micro_batch_size": size})
        runs[size] = train_here({**job, "adapter": ADALORA}, tmp_path / str(size))
    for one, other in zip(runs[8].steps, runs[2].steps, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
        assert one["orthogonality"] == pytest.approx(other["orthogonality"], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sharding": {"zero": 2}}, "sharding.zero: adalora allocates ranks by complete gradients"),
        ({"sharding": {"fsdp": "full"}}, "sharding.fsdp: adalora allocates ranks by complete"),
        ({"precision": "fp16"}, "precision: adalora reads gradients"),
        ({"method": {"kind": "dpo"}}, "adapter.kind: adalora is for learning the next token"),
    ],
)
def test_what_it_cannot_go_with_is_said(
    document: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobError) as caught:
        parse_job({**document, "adapter": ADALORA, **change}, "test")
    assert words in str(caught.value)


def test_a_run_too_short_is_refused(document: dict[str, Any], tmp_path: Path) -> None:
    job = changed(document, train={"max_steps": 4})
    with pytest.raises(RunError, match=r"leave none of 4 steps"):
        train_here({**job, "adapter": {**ADALORA, "tfinal": 2}}, tmp_path / "run")
