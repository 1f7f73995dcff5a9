"""Each guard stops a run that is broken in the way it watches for, and no other run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run_commands import Run, changed, train_here
from training.config.load import parse_job
from training.config.types import parse_every
from training.errors import GuardError, JobError
from training.guards.finite_loss import FiniteLoss
from training.guards.parameters_updated import ParametersUpdated
from training.guards.supervised_tokens import SupervisedTokens
from training.methods.common.causal_lm import CausalLmTrainer
from training.step_metrics import StepMetrics
from training.trainer.distributed import ControlPlane, detect_world

Break = Callable[[CausalLmTrainer], None]


@contextmanager
def broken(monkeypatch: pytest.MonkeyPatch, how: Break) -> Iterator[None]:
    """Have the real trainer broken in one way as soon as it is made."""
    made = CausalLmTrainer.__init__

    def make(self: CausalLmTrainer, **arguments: Any) -> None:
        made(self, **arguments)
        how(self)

    with monkeypatch.context() as patch:
        patch.setattr(CausalLmTrainer, "__init__", make)
        yield


def stopped(document: dict[str, Any], path: Path) -> str:
    """Train, expect a guard to stop it, and return what it says."""
    with pytest.raises(GuardError) as caught:
        train_here(document, path)
    assert caught.value.exit_code == 4
    assert not (path / "model").exists()
    assert not (path / ".writing-model").exists()
    return str(caught.value)


@pytest.fixture
def job(document: dict[str, Any]) -> dict[str, Any]:
    return changed(document, guards={"update_check_after": "6 steps"})


def test_no_guard_stops_a_sound_run(job: dict[str, Any], tmp_path: Path) -> None:
    run = train_here(job, tmp_path / "run")
    assert (run.path / "model").exists()


# --- a tensor that does not move ----------------------------------------------------------------


def zero_one_gradient(trainer: CausalLmTrainer) -> None:
    for name, parameter in trainer.model.named_parameters():
        if name.endswith("layers.1.mlp.up_proj.weight"):
            parameter.register_hook(torch.zeros_like)


def detach_a_layer(trainer: CausalLmTrainer) -> None:
    def cut(module: Any, inputs: Any, output: Any) -> Any:
        return output.detach()

    trainer.model.get_submodule("model.layers.0.self_attn.q_proj").register_forward_hook(cut)


def leave_one_out_of_the_optimizer(trainer: CausalLmTrainer) -> None:
    create = trainer.create_optimizer

    def create_without(*arguments: Any) -> Any:
        parameter = trainer.model.get_parameter("lm_head.weight")
        parameter.requires_grad_(False)
        optimizer = create(*arguments)
        parameter.requires_grad_(True)
        return optimizer

    trainer.create_optimizer = create_without


@pytest.mark.parametrize(
    ("how", "names"),
    [
        (zero_one_gradient, "layers.1.mlp.up_proj.weight"),
        (detach_a_layer, "layers.0.self_attn.q_proj.weight"),
        (leave_one_out_of_the_optimizer, "lm_head.weight"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_tensor_that_does_not_move(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Break, names: str
) -> None:
    with broken(monkeypatch, how):
        said = stopped(job, tmp_path / "run")
    assert re.search(r"1 of 21 trainable tensors have not changed after 6 steps", said)
    assert names in said
    assert "model.freeze.patterns" in said
    assert "now 0.000" in said or "now 1e-" in said or "now 5e-" in said
    # It is seen by the step the job says, not at the end.
    assert Run(tmp_path / "run").steps[-1]["step"] <= 6


def test_lora_that_stays_zero(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zero_every_b(trainer: CausalLmTrainer) -> None:
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.register_hook(torch.zeros_like)

    with broken(monkeypatch, zero_every_b):
        said = stopped({**job, "adapter": {"kind": "lora", "r": 4}}, tmp_path / "run")
    assert "28 of 28 trainable tensors have not changed" in said


def test_weights_too_coarse_for_the_steps(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Updates of bf16 weights without an fp32 copy."""

    def coarsen(trainer: CausalLmTrainer) -> None:
        for parameter in trainer.model.parameters():
            parameter.data = parameter.data.bfloat16()

    small = changed(job, train={"learning_rate": 1e-5}, precision="bf16")
    with broken(monkeypatch, coarsen):
        said = stopped(small, tmp_path / "run")
    assert "raise train.learning_rate" in said
    train_here(small, tmp_path / "fp32")


def test_a_warmup_that_has_not_begun_is_no_fault(job: dict[str, Any], tmp_path: Path) -> None:
    """At the first step the learning rate is 0: nothing moves, and nothing should."""
    slow = changed(job, train={"warmup": "10 steps"}, guards={"update_check_after": "1 steps"})
    train_here(slow, tmp_path / "run")


# --- a loss that cannot be ----------------------------------------------------------------------


def test_loss_that_explodes(job: dict[str, Any], tmp_path: Path) -> None:
    said = stopped(
        changed(job, train={"learning_rate": 1e30, "warmup": 0, "max_grad_norm": 0}),
        tmp_path / "run",
    )
    assert re.search(r"(the loss|the gradient) of step \d+ (is|has norm) (nan|inf)", said)
    assert "Lower train.learning_rate" in said


def test_poisoned_weight(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(trainer: CausalLmTrainer) -> None:
        trainer.model.get_parameter("model.norm.weight").data[3] = float("nan")

    with broken(monkeypatch, poison):
        said = stopped(job, tmp_path / "run")
    assert "the loss of step 1 is nan" in said
    assert "pairs.jsonl" in said, "does not name the rows"


def test_gradient_that_is_not_finite(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison_gradient(trainer: CausalLmTrainer) -> None:
        weight = trainer.model.get_parameter("model.norm.weight")
        weight.register_hook(lambda gradient: gradient * float("inf"))

    with broken(monkeypatch, poison_gradient):
        said = stopped(job, tmp_path / "run")
    assert re.search(r"the gradient of step 1 has norm (inf|nan) at a loss of \d", said)


def test_loss_of_zero(job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_the_loss(trainer: CausalLmTrainer) -> None:
        whole = trainer.compute_loss
        trainer.compute_loss = lambda *a, **k: whole(*a, **k) * 0

    with broken(monkeypatch, lose_the_loss):
        said = stopped(job, tmp_path / "run")
    assert "the loss of step 1 is exactly 0 over" in said
    assert "mask_preview.txt" in said


# --- nothing to learn ---------------------------------------------------------------------------


def test_step_without_a_supervised_token(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels lost between the table and the model, as a faulty collator would lose them."""

    def lose_labels(trainer: CausalLmTrainer) -> None:
        whole = trainer.setup.collate

        def collate(rows: Any) -> Any:
            batch = whole(rows)
            batch["labels"][:] = -100
            return batch

        collate.padding_example = whole.padding_example  # type: ignore[attr-defined]  # a function as a Collate
        trainer.setup.collate = collate  # type: ignore[assignment]  # a function as a Collate

    with broken(monkeypatch, lose_labels):
        said = stopped(job, tmp_path / "run")
    assert re.search(r"step 1 had no supervised token in \d+ tokens", said)
    assert "data.max_length" in said
    assert "method.loss_on" in said


# --- what the run never shows the guards, said to them directly ---------------------------------


def facts(**values: Any) -> StepMetrics:
    return StepMetrics(
        **{
            "step": 4,
            "epoch": 0.5,
            "loss": 2.0,
            "grad_norm": 1.0,
            "learning_rate": 1e-3,
            "tokens": 100,
            "supervised_tokens": 50,
            "row_ids": ("a:1", "a:2"),
            "seconds": 0.1,
            "extra": {},
            **values,
        }
    )


def test_fp16_may_skip_steps_but_not_forever() -> None:
    guard = FiniteLoss("fp16")
    for _ in range(50):
        guard.on_step(facts(grad_norm=float("inf")), None)
    with pytest.raises(GuardError, match="51 steps in a row"):
        guard.on_step(facts(grad_norm=float("inf")), None)
    guard = FiniteLoss("fp16")
    for number in range(200):
        guard.on_step(facts(grad_norm=float("inf") if number % 3 else 1.0), None)


def test_steps_that_fp16_skips_move_no_tensor() -> None:
    model = torch.nn.Linear(2, 2)
    guard = ParametersUpdated(parse_every("4 steps"), 10, ControlPlane(detect_world()))
    guard.on_start(model, 0)
    for number in range(1, 8):
        guard.on_step(facts(step=number, grad_norm=float("inf")), model)
    with pytest.raises(GuardError, match="2 of 2 trainable tensors have not changed"):
        for number in range(8, 17):
            guard.on_step(facts(step=number), model)


@pytest.mark.parametrize("norm", [float("inf"), float("nan")])
def test_no_other_precision_may(norm: float) -> None:
    with pytest.raises(GuardError, match="gradient of step 4"):
        FiniteLoss("bf16").on_step(facts(grad_norm=norm), None)


def test_an_engine_without_a_norm_is_no_fault() -> None:
    FiniteLoss("fp32").on_step(facts(grad_norm=None), None)


def test_one_supervised_token_is_enough() -> None:
    SupervisedTokens().on_step(facts(supervised_tokens=1), None)
    with pytest.raises(GuardError, match="a:1, a:2"):
        SupervisedTokens().on_step(facts(supervised_tokens=0), None)


def test_guards_cannot_be_switched_off(job: dict[str, Any]) -> None:
    guards = parse_job(job, "test").guards.model_dump()
    assert guards.keys() == {"update_check_after", "expert_collapse"}
    with pytest.raises(JobError, match="Choose from warn, stop"):
        parse_job(changed(job, guards={"expert_collapse": {"action": "none"}}), "test")
