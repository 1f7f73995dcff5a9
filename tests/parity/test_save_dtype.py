"""Weights saved or exported in another precision are the trained ones, rounded once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from planning import make_plan
from tests.factories import docstring_pairs, make_tiny_model, write_jsonl
from tests.run_commands import Run, changed, read_jsonl, train_here
from tests.two_node import train_in_pair
from training.config.load import parse_job
from training.errors import JobError, ModelError
from training.export.command import export_model
from training.report.run_data import read_run_data
from training.report.summary import summary


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a base whose files are bf16."""
    folder = make_tiny_model(tmp_path_factory.mktemp("half") / "model")
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture
def job(document: dict[str, Any], half: Path, tmp_path: Path) -> dict[str, Any]:
    write_jsonl(tmp_path / "held-out.jsonl", docstring_pairs(60)[40:])
    held_out = {"validation": str(tmp_path / "held-out.jsonl")}
    job = changed(document, model={"source": str(half)}, data=held_out, train={"max_steps": 4})
    return {**job, "save_dtype": "auto"}


def saved(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "model/model.safetensors")


def after(run: Run) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run.path / "evaluation.json").read_text())["after"]
    return document


def held_out_loss(model: Path, rows: Path) -> float:
    """Return the loss per answer token of a saved model in fp32, by Transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    total, tokens = 0.0, 0
    for row in read_jsonl(rows):
        prompt = tokenizer(row["prompt"] + "\n")["input_ids"]
        answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        ids = [*prompt, *answer, tokenizer.eos_token_id][:96]
        labels = [*([-100] * len(prompt)), *ids[len(prompt) :]]
        with torch.no_grad():
            logits = loaded(torch.tensor([ids])).logits[0, :-1]
        targets = torch.tensor(labels[1:])
        total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        tokens += int((targets != -100).sum())
    return total / tokens


def test_the_precision_of_the_base(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_here(job, tmp_path / "run")
    losses = (after(run)["validation"]["loss"], after(run)["saved"]["validation"]["loss"])
    said = f"weights rounded to bf16: held-out loss {losses[0]:.4f} → {losses[1]:.4f}"
    assert said in capsys.readouterr().out
    full = train_here({**job, "save_dtype": None}, tmp_path / "full")
    assert "saved" not in after(full) and after(full)["validation"]["loss"] == losses[0]
    for name, weight in saved(full).items():
        assert weight.dtype == torch.float32
        assert torch.equal(saved(run)[name], weight.to(torch.bfloat16)), name
    # The loss that is reported is that of the files, and that of the fp32 weights another one.
    rows = tmp_path / "held-out.jsonl"
    assert held_out_loss(run.path / "model", rows) == pytest.approx(losses[1], rel=1e-6)
    assert held_out_loss(full.path / "model", rows) == pytest.approx(losses[0], rel=1e-6)
    assert losses[0] != losses[1]
    assert AutoConfig.from_pretrained(run.path / "model").dtype == torch.bfloat16
    assert AutoModelForCausalLM.from_pretrained(run.path / "model").dtype == torch.bfloat16
    assert f"bf16; held-out loss {losses[0]:.4f}" in (run.path / "model/README.md").read_text()
    facts = summary(read_run_data(run.path))
    assert any(fact.startswith("weights saved in bf16, held-out loss") for fact in facts)


def test_the_plan_counts_two_bytes(job: dict[str, Any]) -> None:
    small, large = (
        make_plan(parse_job({**job, "save_dtype": dtype}, "test")).disk_gib
        for dtype in ("auto", None)
    )
    assert small["model"] == pytest.approx(large["model"] / 2)
    assert small["checkpoints"] == large["checkpoints"]


def test_a_base_in_fp32_is_saved_as_it_was_trained(
    job: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    run = train_here(changed(job, model={"source": str(tiny_model)}), tmp_path / "run")
    assert {tensor.dtype for tensor in saved(run).values()} == {torch.float32}
    assert "saved" not in after(run)


def test_a_weight_too_large_for_fp16_keeps_the_model(
    job: dict[str, Any], half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(half, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight[300] = 1e5  # a token that no row has
    model.save_pretrained(tmp_path / "large")
    AutoTokenizer.from_pretrained(half).save_pretrained(tmp_path / "large")
    source = {"source": str(tmp_path / "large")}
    run = train_here({**changed(job, model=source), "save_dtype": "fp16"}, tmp_path / "run")
    assert "a weight of 1e+05 exceeds the largest number of fp16, 65504" in capsys.readouterr().out
    assert {tensor.dtype for tensor in saved(run).values()} == {torch.float32}
    with pytest.raises(ModelError, match=r"exceeds the largest number of torch.float16"):
        export_model(run.path, to=tmp_path / "out", dtype="fp16")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"adapter": {"kind": "lora"}}, "an adapter is saved as it was trained"),
        ({"sharding": {"zero": 2}, "precision": "bf16", "save_dtype": "fp32"}, "trained in bf16"),
    ],
)
def test_what_is_refused(job: dict[str, Any], sections: dict[str, Any], reason: str) -> None:
    with pytest.raises(JobError, match=f"save_dtype: .*{reason}"):
        parse_job({**job, **sections}, "test")


def test_an_export_in_another_precision(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_here({**job, "save_dtype": None}, tmp_path / "run")
    export_model(run.path, to=tmp_path / "out", dtype="bf16")
    said = capsys.readouterr().out
    exported = load_file(tmp_path / "out/model.safetensors")
    for name, weight in saved(run).items():
        assert torch.equal(exported[name], weight.to(torch.bfloat16)), name
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    figures = json.loads((tmp_path / "export.json").read_text())["out"]
    assert figures["bytes"]["before"] == 2 * figures["bytes"]["after"]
    losses = figures["held_out_loss"]
    assert f"held-out loss {losses['before']:.4f} → {losses['after']:.4f}" in said
    assert losses["before"] != losses["after"]
    with pytest.raises(JobError, match="DTYPE: is no precision of weights"):
        export_model(run.path, to=tmp_path / "no", dtype="int3")


def test_an_adapter_in_half_the_size(
    job: dict[str, Any], half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PEFT alone loads it. It also loads int8, which is why int8 is not offered."""
    lora = {"kind": "lora", "r": 4}
    job = changed({**job, "save_dtype": None, "adapter": lora}, train={"learning_rate": 1e-2})
    run = train_here(job, tmp_path / "run")
    export_model(run.path, "adapter", tmp_path / "out", dtype="bf16")
    assert "held-out loss" in capsys.readouterr().out
    trained, cast = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (run.path / "model", tmp_path / "out")
    )
    for name, weight in trained.items():
        assert torch.equal(cast[name], weight.to(torch.bfloat16)), name
    figures = json.loads((tmp_path / "export.json").read_text())["out"]
    assert figures["bytes"]["before"] == 2 * figures["bytes"]["after"]
    base, before, after = (
        by_peft(half, folder) for folder in (None, run.path / "model", tmp_path / "out")
    )
    assert 0 < (after - before).abs().max() < 0.02 * (before - base).abs().max()
    integers = {
        name: (127 * weight / weight.abs().amax(1, keepdim=True)).round().to(torch.int8)
        for name, weight in trained.items()
    }
    save_file(integers, tmp_path / "out/adapter_model.safetensors", metadata={"format": "pt"})
    wrong = by_peft(half, tmp_path / "out")
    assert (wrong - before).abs().max() > (before - base).abs().max(), "PEFT reads int8 now"


def by_peft(base: Path, adapter: Path | None) -> torch.Tensor:
    """Return the logits of a base with an adapter, in fp32, by Transformers and PEFT alone."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(torch.arange(3, 60)[None]).logits
    return logits


@pytest.mark.slow
@pytest.mark.parametrize(
    "sharding", [{"zero": 0}, {"zero": 2}, {"zero": 3}, {"fsdp": "full"}], ids=str
)
def test_sharded_weights_are_rounded_too(
    job: dict[str, Any], tmp_path: Path, sharding: dict[str, Any]
) -> None:
    job = changed(job, sharding=sharding, train={"micro_batch_size": 4})
    runs = train_in_pair({"half": job, "full": {**job, "save_dtype": None}}, tmp_path / "runs")
    for key, weight in saved(runs["full"]).items():
        assert torch.equal(saved(runs["half"])[key], weight.to(torch.bfloat16)), key
    loss = held_out_loss(runs["half"].path / "model", tmp_path / "held-out.jsonl")
    assert after(runs["half"])["saved"]["validation"]["loss"] == pytest.approx(loss, rel=1e-5)
