"""An adapter that was saved is the one that was trained, apart from its base or merged into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.run_commands import Run, changed, read_weights, train_here
from training.config.load import parse_job
from training.data.collators.sequences import SequenceCollator
from training.data.prepare import prepare

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "r": 4, "alpha": 16},
    "lora with biases": {"kind": "lora", "r": 4, "alpha": 16, "bias": "lora_only"},
    "rank-stabilised": {"kind": "lora", "r": 4, "alpha": 4, "use_rslora": True},
    "weight-decomposed": {"kind": "lora", "r": 4, "alpha": 16, "use_dora": True},
    "ranks dealt out": {"kind": "adalora", "r": 2, "init_r": 4, "alpha": 16, "delta_t": 2},
    "one factor per channel": {"kind": "ia3"},
    "whole modules": {
        "kind": "lora",
        "r": 4,
        "alpha": 16,
        "target_modules": ["q_proj", "v_proj"],
        "modules_to_save": ["lm_head"],
    },
}


def tuned(document: dict[str, Any], adapter: dict[str, Any], path: Path) -> Run:
    job = changed(document, train={"learning_rate": 1e-2}, data={"validation": {"split": "20%"}})
    return train_here({**job, "adapter": adapter}, path / "run")


def held_out(model: Any, job: dict[str, Any], tokenizer: Any, path: Path) -> tuple[Any, float]:
    """Return a model's logits on the held-out rows, and its loss there."""
    table = prepare(
        parse_job(job, "test"), tokenizer, cache_dir=path / "cache", run_dir=path / "data"
    ).validation
    assert table is not None
    batch = SequenceCollator(tokenizer.pad_token_id)([table[index] for index in range(len(table))])
    with torch.no_grad():
        logits = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100
    )
    return logits, float(loss)


@pytest.mark.parametrize("kind", KINDS)
def test_adapter_is_its_merged_weights(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    run = tuned(document, KINDS[kind], tmp_path)
    job = changed(document, data={"validation": {"split": "20%"}})
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")

    base = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    before, _ = held_out(base, job, tokenizer, tmp_path)
    model = PeftModel.from_pretrained(base, run.path / "model").eval()
    apart, loss = held_out(model, job, tokenizer, tmp_path)
    merged, _ = held_out(model.merge_and_unload(), job, tokenizer, tmp_path)

    assert (apart - before).abs().max() > 1e-2, "the adapter changes nothing"
    assert (apart - merged).abs().max() < 1e-5 * apart.abs().max()
    after = json.loads((run.path / "evaluation.json").read_text())["after"]["validation"]["loss"]
    assert loss == pytest.approx(after, abs=1e-5), "what was saved is not what was trained"


def test_the_base_stays_as_it_was(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    before = {p.name: p.read_bytes() for p in tiny_model.iterdir()}
    run = tuned(document, KINDS["lora"], tmp_path)
    assert {p.name: p.read_bytes() for p in tiny_model.iterdir()} == before
    assert all("lora_" in name for name in run.weights)


def test_four_bit_base_learns(document: dict[str, Any], tmp_path: Path) -> None:
    job = changed(document, precision="bf16", train={"learning_rate": 1e-2, "max_steps": 20})
    run = train_here({**job, "adapter": {"kind": "qlora", "r": 4, "alpha": 16}}, tmp_path / "run")
    assert sum(run.losses[-3:]) < sum(run.losses[:3]) - 0.1
    assert all(weight.abs().sum() > 0 for weight in run.weights.values())


def test_four_bit_start_is_near_the_base(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    """The first loss is the base's own but for rounding: a fresh adapter changes nothing."""
    first = {}
    for kind in ("lora", "qlora"):
        job = changed(document, precision="bf16", train={"max_steps": 1})
        job["adapter"] = {"kind": kind, "r": 4}
        first[kind] = train_here(job, tmp_path / kind).losses[0]
    full = train_here(changed(document, train={"max_steps": 1}), tmp_path / "full").losses[0]
    assert first["lora"] == pytest.approx(full, rel=5e-3)
    assert first["qlora"] == pytest.approx(full, rel=3e-2)
    assert len(read_weights(tiny_model)) == 21
