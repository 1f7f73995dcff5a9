"""Our fine-tuning is a plain TRL script's, number for number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from tests.run_commands import changed, read_weights, train_here
from training.config.load import parse_job
from training.data.prepare import prepare
from training.trainer.sample_order import SampleOrder

STEPS, BATCH, RATE = 12, 8, 1e-3


class Recording(SFTTrainer):
    """TRL's trainer, in the order of the rows as they are, with its losses kept unrounded."""

    def _get_train_sampler(self, *ignored: Any) -> Any:
        return None

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        self.kept = [*getattr(self, "kept", []), dict(logs)]
        super().log(logs, *rest)


def plain_trl(
    model: Path, rows: list[dict[str, Any]], folder: Path, accumulation: int = 2
) -> Recording:
    """Fine-tune as TRL's documentation shows it, on rows that are tokenized already.

    Args:
        model: Folder of the model.
        rows: Token ids and labels.
        folder: Output folder.
        accumulation: Micro-batches of a step.
    """
    trainer = Recording(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=Dataset.from_list(rows),
        args=SFTConfig(
            output_dir=str(folder),
            max_steps=STEPS,
            per_device_train_batch_size=BATCH // accumulation,
            gradient_accumulation_steps=accumulation,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            warmup_steps=3,
            optim="adamw_torch_fused",
            max_grad_norm=1.0,
            logging_steps=1,
            max_length=None,
            shuffle_dataset=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            seed=42,
        ),
    )
    trainer.train()
    return trainer


def test_same_numbers_as_a_plain_trl_script(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    job = changed(
        document,
        train={
            "max_steps": STEPS,
            "global_batch_size": BATCH,
            "micro_batch_size": BATCH,
            "learning_rate": RATE,
            "lr_scheduler": "cosine",
            "warmup": "3 steps",
        },
    )
    ours = train_here(job, tmp_path / "ours")

    table = prepare(
        parse_job(job, "test"),
        AutoTokenizer.from_pretrained(tiny_model),
        cache_dir=tmp_path / "cache",
        run_dir=tmp_path / "data",
    ).train
    order = SampleOrder.for_run(
        len(table), global_batch_size=BATCH, epochs=1, max_steps=STEPS, seed=42, shuffle=True
    )
    rows = [table[index] for step in order.steps() for index in step]
    assert [i for row in rows[:BATCH] for i in row["ids"]] != [
        i for index in range(BATCH) for i in table[index]["ids"]
    ], "the rows are in the order of the file: nothing is shuffled"
    plain = plain_trl(
        tiny_model,
        [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows],
        tmp_path / "trl",
    )

    logged = [logs for logs in plain.kept if "loss" in logs and "grad_norm" in logs]
    assert len(logged) == STEPS
    assert ours.losses == pytest.approx([logs["loss"] for logs in logged], abs=1e-5)
    assert ours.grad_norms == pytest.approx([logs["grad_norm"] for logs in logged], rel=1e-4)
    theirs = dict(plain.model.named_parameters())
    for name, weight in ours.weights.items():
        assert (weight - theirs[name]).abs().max() < 1e-5, name
    start = read_weights(tiny_model)
    assert all((ours.weights[name] - start[name]).abs().max() > 1e-4 for name in start)
