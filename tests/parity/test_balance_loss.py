"""The load-balancing loss of a mixture of experts is Transformers' and TRL's, in every method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
from trl import DPOConfig

from tests.factories import make_tiny_model
from tests.moe_models import BALANCED, EXPERTS, make_tiny_moe
from tests.parity.test_online_rl import job_of
from tests.parity.test_trl import BATCH, RATE, STEPS, plain_trl
from tests.parity.test_trl_preferences import SETTINGS, PlainDpo, logged, sides
from tests.preference_rows import preference_job, write_rows
from tests.run_commands import Run, changed, read_weights, train_here
from tests.two_node import train_in_pair
from training.config.load import parse_job
from training.data.prepare import prepare
from training.errors import ModelError
from training.methods.common.causal_lm import CausalLmTrainer
from training.trainer.exact_trainer import ExactTrainerMixin
from training.trainer.router_recorder import RouterRecorder
from training.trainer.sample_order import SampleOrder

COEFFICIENT = 0.5
ONE_STEP = {
    "max_steps": 1,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "lr_scheduler": "constant",
    "warmup": 0,
    "max_grad_norm": 0,
}
"""A step that changes every weight by its gradient times the learning rate."""


@pytest.fixture(scope="session")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixtral of two layers with four experts each, two of them per token."""
    return make_tiny_moe(tmp_path_factory.mktemp("moe") / "model")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Micro-batches that a run computes its loss from."""
    batches: list[dict[str, torch.Tensor]] = []
    original = CausalLmTrainer.compute_loss

    def recording(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        batches.append({name: value.clone() for name, value in inputs.items()})
        return original(self, model, inputs, *rest, **more)

    monkeypatch.setattr(CausalLmTrainer, "compute_loss", recording)
    return batches


def plain_step(
    model: Any, batches: list[dict[str, torch.Tensor]], pad_id: int, coefficient: float
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss of a step and its gradients, written out with Transformers' parts.

    Args:
        model: Model as Transformers loads it.
        batches: Micro-batches of the step.
        pad_id: Padding token.
        coefficient: Coefficient of the load-balancing loss.
    """
    tokens = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in batches)
    total = torch.zeros(())
    for batch in batches:
        inputs = {k: v for k, v in batch.items() if k != "labels"}
        outputs = model.train()(**inputs, output_router_logits=True, use_cache=False)
        targets = batch["labels"][:, 1:].flatten()
        logits = outputs.logits[:, :-1].flatten(0, 1)
        total = total + torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / tokens
        mask = (batch["input_ids"] != pad_id).long()
        balance = load_balancing_loss_func(outputs.router_logits, EXPERTS, 2, mask)
        total = total + coefficient * balance / len(batches)
    total.backward()
    return float(total), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def in_memory(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype="float32", attn_implementation="eager"
    )


def assert_step_is(run: Run, start: Path, loss: float, gradients: dict[str, torch.Tensor]) -> None:
    """Assert that a run of `ONE_STEP` had this loss and these gradients."""
    assert run.losses == pytest.approx([loss], abs=1e-5)
    before = dict(in_memory(start).named_parameters())
    after = dict(in_memory(run.path / "model").named_parameters())
    for name, gradient in gradients.items():
        moved = (before[name] - after[name]) / ONE_STEP["learning_rate"]
        assert (moved - gradient).abs().max() < 2e-5 + 1e-3 * gradient.abs().max(), name
    assert any("experts" in name for name in gradients)


def eager(document: dict[str, Any], model: Path, **sections: Any) -> dict[str, Any]:
    job = changed(document, model={"source": str(model), "attention": "eager"})
    return changed(changed(job, train=ONE_STEP), **sections)


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=[] if family in ("mixtral", "gpt_oss") else [pytest.mark.slow])
        for family in BALANCED
    ],
)
def test_loss_and_gradients_are_those_of_transformers(
    document: dict[str, Any], tmp_path: Path, seen: Any, family: str
) -> None:
    """Transformers' own loss of the same micro-batch, its padding masked, with `labels`."""
    start = make_tiny_moe(tmp_path / "model", family)
    run = train_here(eager(document, start), tmp_path / "run")
    (batch,) = seen
    pad_id = AutoTokenizer.from_pretrained(start).pad_token_id
    mask = (batch["input_ids"] != pad_id).long()
    assert not mask.all(), "no row is padded: nothing would be masked"
    model = in_memory(start)
    outputs = model.train()(
        input_ids=batch["input_ids"],
        attention_mask=mask,
        labels=batch["labels"],
        output_router_logits=True,
        use_cache=False,
    )
    outputs.loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    assert_step_is(run, start, float(outputs.loss), gradients)
    assert run.steps[0]["aux_loss"] == pytest.approx(float(outputs.aux_loss), abs=1e-5)
    saved = json.loads((run.path / "model/config.json").read_text())
    assert saved["router_aux_loss_coef"] == COEFFICIENT
    assert not saved.get("output_router_logits")


@pytest.mark.parametrize(
    ("data", "train"),
    [
        ({}, {"micro_batch_size": 2}),
        ({"packing": True}, {"global_batch_size": 4, "micro_batch_size": 2}),
        ({}, {"micro_batch_size": 4, "gradient_checkpointing": True}),
        ({}, {"micro_batch_size": 4, "router_aux_loss_coef": 0.02}),
        ({}, {"micro_batch_size": 4, "router_aux_loss_coef": "none"}),
    ],
    ids=["accumulated", "packed", "recomputed", "coefficient", "off"],
)
def test_micro_batches_are_averaged(
    document: dict[str, Any],
    moe: Path,
    tmp_path: Path,
    seen: Any,
    data: dict[str, Any],
    train: dict[str, Any],
) -> None:
    run = train_here(eager(document, moe, data=data, train=train), tmp_path / "run")
    assert len(seen) > 1
    chosen = train.get("router_aux_loss_coef", COEFFICIENT)
    coefficient = 0.0 if chosen == "none" else chosen
    pad_id = AutoTokenizer.from_pretrained(moe).pad_token_id
    loss, gradients = plain_step(in_memory(moe), seen, pad_id, coefficient)
    assert_step_is(run, moe, loss, gradients)
    assert ("aux_loss" in run.steps[0]) == (coefficient > 0)


@pytest.mark.slow
def test_sft_is_a_plain_trl_script(document: dict[str, Any], moe: Path, tmp_path: Path) -> None:
    train = {
        "max_steps": STEPS,
        "global_batch_size": BATCH,
        "micro_batch_size": BATCH,
        "learning_rate": RATE,
        "lr_scheduler": "cosine",
        "warmup": "3 steps",
    }
    job = changed(document, model={"source": str(moe)}, train=train)
    ours = train_here(job, tmp_path / "ours")
    table = prepare(
        parse_job(job, "test"),
        AutoTokenizer.from_pretrained(moe),
        cache_dir=tmp_path / "cache",
        run_dir=tmp_path / "data",
    ).train
    order = SampleOrder.for_run(
        len(table), global_batch_size=BATCH, epochs=1, max_steps=STEPS, seed=42, shuffle=True
    )
    rows = [table[index] for step in order.steps() for index in step]
    columns = [{name: row[name] for name in ("input_ids", "labels")} for row in rows]
    plain = plain_trl(moe, columns, tmp_path / "trl", accumulation=1)
    logs = [entry for entry in plain.kept if "loss" in entry and "grad_norm" in entry]
    assert ours.losses == pytest.approx([entry["loss"] for entry in logs], abs=2e-5)
    assert ours.grad_norms == pytest.approx([entry["grad_norm"] for entry in logs], rel=1e-3)
    history = plain.state.log_history
    balance = [entry["aux_loss"] for entry in history if "aux_loss" in entry]
    assert [step["aux_loss"] for step in ours.steps] == pytest.approx(balance, abs=1e-3)


@pytest.mark.slow
def test_dpo_is_a_plain_trl_script(moe: Path, tmp_path: Path) -> None:
    rows = write_rows("dpo", tmp_path)
    train = {
        "max_steps": 8,
        "global_batch_size": 8,
        "micro_batch_size": 8,
        "learning_rate": 1e-3,
        "lr_scheduler": "cosine",
        "warmup": "2 steps",
    }
    document = preference_job(moe, rows, "dpo", train=train, data={"validation": "none"})
    ours = train_here(document, tmp_path / "ours")
    tokenizer = AutoTokenizer.from_pretrained(moe)
    settings = {**SETTINGS, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    plain = PlainDpo(
        model=AutoModelForCausalLM.from_pretrained(moe, dtype="float32"),
        args=DPOConfig(output_dir=str(tmp_path / "trl"), **settings),
        train_dataset=Dataset.from_list(sides(document, tokenizer, tmp_path / "data")),
        processing_class=tokenizer,
    )
    plain.train()
    losses, norms = logged(plain)
    assert ours.losses == pytest.approx(losses, abs=2e-5)
    assert ours.grad_norms == pytest.approx(norms, rel=1e-3)
    assert ours.steps[0]["loss"] > 1, "the loss of a first step of DPO is log 2 without balance"


LORA = {"adapter": {"kind": "lora", "r": 4, "alpha": 8}}
METHODS: dict[str, dict[str, Any]] = {
    "pretrain": {},
    "distill": {},
    "dpo": {},
    "kto": {},
    "orpo": {},
    "simpo": {},
    "reward": {},
    "grpo": {},
    "rloo": {},
    "ppo": {},
    "ppo with an adapter": LORA,
    "sft with kl_to_base": {"train": {"kl_to_base": 0.5}, **LORA},
    "distill on-policy": {
        "method": {"on_policy": 1.0, "answer_tokens": 8, "loss_on": "completion"}
    },
}


def job_for(case: str, moe: Path, folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    kind = case.split()[0]
    if kind in ("grpo", "rloo"):
        job = job_of(kind, moe, method={"beta": 0})
    elif kind == "ppo":
        job = job_of("grpo", moe)
        rollout = {"max_new_tokens": 12, "batch": 8}
        job["method"] = {"kind": "ppo", "reward": job["method"]["reward"], "rollout": rollout}
    elif kind in ("dpo", "kto", "orpo", "simpo", "reward"):
        job = preference_job(moe, write_rows(kind, folder), kind, data={"validation": "none"})
    else:
        job = changed(document, model={"source": str(moe)}, method={"kind": kind})
        if kind == "pretrain":
            text = folder / "text.jsonl"
            text.write_text(
                '{"text": "A list is a mutable sequence of objects, and a str is."}\n' * 40
            )
            job = changed(job, data={"train": str(text)})
        if kind == "distill":
            teacher = make_tiny_model(folder / "teacher", hidden_size=48)
            job = changed(job, method={"teacher": str(teacher)})
    batch = {"global_batch_size": 8, "micro_batch_size": 4}
    return changed(changed(job, train={**ONE_STEP, **batch}), **METHODS[case])


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] if case not in ("dpo", "reward") else [])
        for case in METHODS
    ],
)
def test_every_method_is_balanced(
    document: dict[str, Any],
    moe: Path,
    tmp_path: Path,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loss with it is the loss without it, plus the coefficient times what is logged."""
    job = job_for(case, moe, tmp_path, document)
    off = train_here(changed(job, train={"router_aux_loss_coef": 0}), tmp_path / "off")
    on = train_here(job, tmp_path / "on")
    # PPO learns from two forward passes, of the policy and of the critic.
    passes = 2 if case.startswith("ppo") else 1
    added = COEFFICIENT * passes * on.steps[0]["aux_loss"]
    assert on.losses[0] - off.losses[0] == pytest.approx(added, abs=2e-5)
    assert 1.9 < on.steps[0]["aux_loss"] < EXPERTS, "two experts of four per token"
    assert "aux_loss" not in off.steps[0]
    assert on.grad_norms[0] != pytest.approx(off.grad_norms[0], rel=1e-3)


@pytest.mark.slow
def test_processes_are_averaged(document: dict[str, Any], moe: Path, tmp_path: Path) -> None:
    """With one row in a micro-batch, a step has the same micro-batches on one process or two."""
    job = eager(document, moe, train={"micro_batch_size": 1, "optimizer": "adamw"})
    job = changed(job, train={"learning_rate": 1e-3})
    alone = train_here(job, tmp_path / "alone")
    jobs = {f"zero-{zero}": changed(job, sharding={"zero": zero}) for zero in (0, 2, 3)}
    for case, both in train_in_pair(jobs, tmp_path / "pair").items():
        assert both.losses == pytest.approx(alone.losses, abs=1e-5)
        assert both.grad_norms == pytest.approx(alone.grad_norms, rel=1e-4)
        assert both.steps[0]["aux_loss"] == pytest.approx(alone.steps[0]["aux_loss"], abs=1e-5)
        for name, weight in both.weights.items():
            assert (weight - alone.weights[name]).abs().max() < 1e-5, (case, name)


def test_passes_are_not_mixed(moe: Path) -> None:
    """A pass is one forward of one model: PPO's critic is not what balances its policy."""
    model = in_memory(moe)
    recorder = RouterRecorder(model, keep_logits=True)
    ids = torch.arange(12)[None]
    with recorder.recording(None):
        model(input_ids=ids)
        with torch.no_grad():
            model(input_ids=ids)
        model(input_ids=ids[:, :5])
    assert [[tuple(logits.shape) for logits in one] for one in recorder.take_passes()] == [
        [(12, EXPERTS)] * 2,
        [(5, EXPERTS)] * 2,
    ]
    model(input_ids=ids)
    assert recorder.take_passes() == []


def test_without_it_no_router_logits_are_kept(
    document: dict[str, Any], moe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: list[Any] = []
    original = ExactTrainerMixin.training_step

    def spy(self: Any, *arguments: Any) -> Any:
        body = self.model.model
        body.register_forward_hook(lambda m, i, out: outputs.append(out.get("router_logits")))
        assert self.balance_loss is None
        return original(self, *arguments)

    monkeypatch.setattr(ExactTrainerMixin, "training_step", spy)
    train_here(eager(document, moe, train={"router_aux_loss_coef": 0}), tmp_path / "run")
    assert outputs and not any(outputs)


def test_held_out_rows_are_measured_without_it(
    document: dict[str, Any], moe: Path, tmp_path: Path
) -> None:
    held_out = {}
    for name, coefficient in (("on", None), ("off", 0)):
        job = eager(document, moe, data={"validation": {"split": "20%"}})
        job = changed(job, train={"router_aux_loss_coef": coefficient})
        run = train_here(job, tmp_path / name)
        measured = json.loads((run.path / "evaluation.json").read_text())
        held_out[name] = measured["before"]["validation"]["loss"]
    assert held_out["on"] == held_out["off"]


def test_an_adapter_below_a_frozen_router_is_balanced(
    document: dict[str, Any], moe: Path, tmp_path: Path
) -> None:
    """The loss changes what reaches the router; the router itself stays what it was."""
    job = eager(
        document, moe, adapter={"kind": "lora", "r": 4, "target_modules": ["q_proj", "v_proj"]}
    )
    runs = {
        name: train_here(changed(job, train={"router_aux_loss_coef": coefficient}), tmp_path / name)
        for name, coefficient in (("on", COEFFICIENT), ("off", 0))
    }
    weights = {name: read_weights(run.path / "model") for name, run in runs.items()}
    assert not any("gate" in name or "router" in name for name in weights["on"])
    moved = [n for n in weights["on"] if not torch.equal(weights["on"][n], weights["off"][n])]
    assert any("layers.0" in name for name in moved)


@pytest.mark.parametrize("family", ["llama", "deepseek_v3"])
def test_a_coefficient_for_nothing_is_refused(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path, family: str
) -> None:
    model = tiny_model
    if family == "deepseek_v3":
        model = make_tiny_moe(tmp_path / "model", family)
    job = eager(document, model, train={"router_aux_loss_coef": 0.01})
    with pytest.raises(ModelError, match=r"train.router_aux_loss_coef is 0.01, but the model"):
        train_here(job, tmp_path / "run")
