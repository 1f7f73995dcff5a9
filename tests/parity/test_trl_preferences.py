"""Our preference methods take the steps of plain TRL scripts on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    set_seed,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from tests.preference_rows import preference_job, write_rows
from tests.run_commands import read_weights, train_here
from training.config.load import parse_job
from training.data.prepare import prepare
from training.trainer.sample_order import SampleOrder

STEPS, BATCH, RATE = 8, 8, 1e-3
SETTINGS: dict[str, Any] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": BATCH // 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": RATE,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 2,
    "optim": "adamw_torch_fused",
    "max_grad_norm": 1.0,
    "logging_steps": 1,
    "max_length": None,
    "train_sampling_strategy": "sequential",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
    "seed": 42,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows("dpo", tmp_path_factory.mktemp("rows"))


def job(model: Path, rows: Path, kind: str) -> dict[str, Any]:
    train = {
        "max_steps": STEPS,
        "global_batch_size": BATCH,
        "micro_batch_size": BATCH,
        "learning_rate": RATE,
        "lr_scheduler": "cosine",
        "warmup": "2 steps",
    }
    return preference_job(model, rows, kind, train=train, data={"validation": "none"})


def sides(document: dict[str, Any], tokenizer: Any, folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the run in the order they are seen: prompt, chosen and rejected ids."""
    data = prepare(
        parse_job(document, "test"), tokenizer, cache_dir=folder / "cache", run_dir=folder
    )
    table: Any = data.train
    order = SampleOrder.for_run(
        len(table), global_batch_size=BATCH, epochs=1, max_steps=STEPS, seed=42, shuffle=True
    )
    found = []
    for index in (i for step in order.steps() for i in step):
        row = table[index]
        split = row["seq_lengths"][0]
        start = next(i for i, label in enumerate(row["labels"]) if label != -100)
        ids = row["input_ids"]
        prompt, chosen, rejected = ids[:start], ids[start:split], ids[split + start :]
        assert ids[split : split + start] == prompt
        found.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return found


def logged(trainer: Any) -> tuple[list[float], list[float]]:
    logs = [log for log in trainer.state.log_history if "loss" in log and "grad_norm" in log]
    assert len(logs) == STEPS
    return [log["loss"] for log in logs], [log["grad_norm"] for log in logs]


class PlainDpo(DPOTrainer):
    def _prepare_dataset(self, dataset: Any, *ignored: Any) -> Any:
        return dataset


def test_dpo(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    document = job(tiny_model, rows, "dpo")
    ours = train_here(document, tmp_path / "ours")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    plain = PlainDpo(
        model=AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32"),
        args=DPOConfig(output_dir=str(tmp_path / "trl"), **SETTINGS),
        train_dataset=Dataset.from_list(sides(document, tokenizer, tmp_path / "data")),
        processing_class=tokenizer,
    )
    plain.train()
    losses, norms = logged(plain)
    assert ours.losses == pytest.approx(losses, abs=1e-5)
    assert ours.grad_norms == pytest.approx(norms, rel=1e-4)
    theirs, start = dict(plain.model.named_parameters()), read_weights(tiny_model)
    for name, weight in ours.weights.items():
        moved = (theirs[name] - start[name]).norm()
        assert (weight - theirs[name]).norm() < 1e-3 * moved, name
    margins = [log["rewards/margins"] for log in plain.state.log_history if "loss" in log]
    assert [step["margin"] for step in ours.steps] == pytest.approx(margins, abs=1e-4)


def test_reward(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    document = job(tiny_model, rows, "reward")
    document["method"]["center_rewards"] = 0.01
    ours = train_here(document, tmp_path / "ours")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    whole = [
        {f"{side}_ids": row["prompt_ids"] + row[f"{side}_ids"] for side in ("chosen", "rejected")}
        for row in sides(document, tokenizer, tmp_path / "data")
    ]
    # Both draw the new head from the seed, and nothing before it.
    set_seed(42)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    plain = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(tmp_path / "trl"), center_rewards_coefficient=0.01, **SETTINGS
        ),
        train_dataset=Dataset.from_list(whole),
        processing_class=tokenizer,
    )
    plain.train()
    losses, norms = logged(plain)
    assert ours.losses == pytest.approx(losses, abs=1e-5)
    assert ours.grad_norms == pytest.approx(norms, rel=1e-4)
    theirs = dict(plain.model.named_parameters())
    for name, weight in ours.weights.items():
        assert (weight - theirs[name]).norm() < 1e-4 * theirs[name].norm(), name


@pytest.mark.parametrize("kind", ["orpo", "simpo"])
def test_first_loss_of_orpo_and_simpo(
    tiny_model: Path, rows: Path, tmp_path: Path, kind: str
) -> None:
    """These write out whole rows of logits at TRL's; what they come to is the same."""
    document = job(tiny_model, rows, kind)
    ours = train_here(document, tmp_path / "ours")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    settings = {**SETTINGS, "max_length": 96, "output_dir": str(tmp_path / "trl")}
    del settings["train_sampling_strategy"]
    text = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    kept = {"train_dataset": Dataset.from_list(text), "processing_class": tokenizer}
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32")
    plain: Any
    if kind == "orpo":
        plain = ORPOTrainer(model=model, args=ORPOConfig(beta=0.1, **settings), **kept)
    else:
        config = CPOConfig(loss_type="simpo", beta=2.0, simpo_gamma=1.0, cpo_alpha=0.0, **settings)
        plain = CPOTrainer(model=model, args=config, **kept)
    batch: dict[str, Any] = {}
    first = sides(document, tokenizer, tmp_path / "data")[:BATCH]
    for side in ("chosen", "rejected"):
        ids = [row["prompt_ids"] + row[f"{side}_ids"] for row in first]
        width = max(map(len, ids))
        shape = (BATCH, width)
        batch[f"{side}_input_ids"] = torch.full(shape, tokenizer.pad_token_id)
        batch[f"{side}_labels"] = torch.full(shape, -100)
        batch[f"{side}_attention_mask"] = torch.zeros(shape, dtype=torch.long)
        for i, (row, whole) in enumerate(zip(first, ids, strict=True)):
            start = len(row["prompt_ids"])
            batch[f"{side}_input_ids"][i, : len(whole)] = torch.tensor(whole)
            batch[f"{side}_labels"][i, start : len(whole)] = torch.tensor(whole[start:])
            batch[f"{side}_attention_mask"][i, : len(whole)] = 1
    with torch.no_grad():
        loss, metrics = plain.get_batch_loss_metrics(plain.model, batch)
    assert ours.losses[0] == pytest.approx(float(loss), abs=1e-5)
    assert ours.steps[0]["margin"] == pytest.approx(metrics["rewards/margins"], abs=1e-5)
