"""Virtual tokens stand before a row and change nothing else about it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.parity.test_adapters import held_out
from tests.run_commands import Run, changed, read_weights, train_here
from training.adapters.soft_prompts import ENCODER
from training.config.load import parse_job
from training.errors import JobError, ModelError
from training.models.load import load_model
from training.pipeline import _import

KINDS: dict[str, dict[str, Any]] = {
    "prompt tuning": {"kind": "prompt_tuning", "num_virtual_tokens": 5},
    "from a text": {"kind": "prompt_tuning", "init": "text", "init_text": "What is it?"},
    "p-tuning": {"kind": "p_tuning", "num_virtual_tokens": 5},
    "p-tuning, LSTM": {"kind": "p_tuning", "num_virtual_tokens": 5, "encoder": "lstm"},
    "prefix tuning": {"kind": "prefix_tuning", "num_virtual_tokens": 5},
    "projected prefix": {"kind": "prefix_tuning", "num_virtual_tokens": 5, "projection": True},
}
STEPS, CUT = 12, 6


@pytest.fixture
def job(document: dict[str, Any]) -> dict[str, Any]:
    return changed(
        document,
        data={"validation": {"split": "20%"}},
        train={"max_steps": STEPS, "learning_rate": 1e-2},
        checkpoint={"every": f"{CUT} steps"},
    )


def fresh(document: dict[str, Any], adapter: dict[str, Any]) -> tuple[Any, Any]:
    """Return the base of a job and the same with a fresh adapter."""
    job = parse_job({**document, "adapter": adapter}, "test")
    tokenizer = AutoTokenizer.from_pretrained(job.model.source)
    base = load_model(job, tokenizer, torch.device("cpu"))
    assert job.adapter is not None
    torch.manual_seed(0)
    tuned = _import(job.adapter.impl)(
        base, job.adapter, tokenizer=tokenizer, max_length=job.data.max_length
    )
    return base, tuned.eval()


@pytest.mark.parametrize("kind", ["prompt tuning", "p-tuning", "p-tuning, LSTM"])
def test_is_the_base_on_vectors_put_before_the_row(document: dict[str, Any], kind: str) -> None:
    base, tuned = fresh(document, KINDS[kind])
    ids = torch.randint(3, 300, (2, 9))
    with torch.no_grad():
        virtual = tuned.prompt_encoder["default"](torch.arange(5)[None]).expand(2, -1, -1)
        rows = base.get_input_embeddings()(ids)
        by_hand = base(inputs_embeds=torch.cat([virtual, rows], 1), use_cache=False).logits[:, 5:]
        ours = tuned(input_ids=ids, position_ids=torch.arange(9).repeat(2, 1)).logits
    assert ours.shape == by_hand.shape
    assert (ours - by_hand).abs().max() < 1e-5


def test_prefix_from_words_is_the_words(document: dict[str, Any]) -> None:
    """A prefix that starts from a text does at first what the text itself would do."""
    base, tuned = fresh(
        document,
        {"kind": "prefix_tuning", "num_virtual_tokens": 4, "init": "text", "init_text": "so it is"},
    )
    tokenizer = AutoTokenizer.from_pretrained(document["model"]["source"])
    words = tokenizer("so it is", add_special_tokens=False)["input_ids"]
    words = (words * 4)[:4]
    ids = torch.randint(3, 300, (2, 9))
    with torch.no_grad():
        before = torch.tensor(words).expand(2, -1)
        by_hand = base(input_ids=torch.cat([before, ids], 1), use_cache=False).logits[:, 4:]
        ours = tuned(input_ids=ids, position_ids=torch.arange(9).repeat(2, 1)).logits
    assert (ours - by_hand).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_padding_behind_a_row_changes_nothing(document: dict[str, Any], kind: str) -> None:
    _, tuned = fresh(document, KINDS[kind])
    ids = torch.randint(3, 300, (1, 9))
    with torch.no_grad():
        alone = tuned(input_ids=ids).logits
        padded = tuned(input_ids=torch.nn.functional.pad(ids, (0, 6))).logits[:, :9]
    assert (alone - padded).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_the_forward_pass_token_by_token(document: dict[str, Any], kind: str) -> None:
    _, tuned = fresh(document, KINDS[kind])
    ids = torch.randint(3, 300, (1, 9))
    with torch.no_grad():
        expected = ids
        for _ in range(8):
            token = tuned(input_ids=expected).logits[:, -1:].argmax(-1)
            expected = torch.cat([expected, token], dim=1)
        answered = tuned.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False,
            use_cache=True, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
    assert torch.equal(answered, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_learns_reads_back_and_goes_on(
    job: dict[str, Any], tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    # A prefix reaches a model of random weights only through attention that is hardly there yet.
    rate = 1e-1 if "prefix" in kind else 1e-2
    job = {**changed(job, train={"learning_rate": rate}), "adapter": KINDS[kind]}
    whole = train_here(job, tmp_path / "run")
    measured = json.loads((whole.path / "evaluation.json").read_text())
    after = measured["after"]["validation"]["loss"]
    assert after < measured["before"]["validation"]["loss"] - 0.02

    # PEFT alone loads from the saved files what was trained.
    base = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(whole.path / "model")
    read = PeftModel.from_pretrained(base, whole.path / "model").eval()
    number = read.active_peft_config.num_virtual_tokens

    class Behind:
        """PEFT's own forward pass also returns what belongs to virtual tokens."""

        def __call__(self, **rows: Any) -> Any:
            rows.pop("position_ids")
            outputs = read(**rows)
            outputs.logits = outputs.logits[:, -rows["input_ids"].shape[1] :]
            return outputs

    _, loss = held_out(Behind(), job, tokenizer, tmp_path)
    assert number == KINDS[kind].get("num_virtual_tokens", 20)
    assert loss == pytest.approx(after, abs=1e-5)

    # From its middle, it ends with the same bits: the network behind the vectors is there again.
    weights = whole.weights
    shutil.rmtree(whole.path / "checkpoints" / f"checkpoint-{STEPS}")
    shutil.rmtree(whole.path / "model")
    again = train_here(job, whole.path)
    assert again.steps[-STEPS + CUT]["step"] == CUT + 1
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.weights.items())
    assert (again.path / "model" / ENCODER).exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prompt tuning", "prefix tuning", "projected prefix"])
def test_gradient_checkpointing_keeps_the_prefix(
    job: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    runs: list[Run] = []
    for again in (False, True):
        document = changed(job, train={"gradient_checkpointing": again, "max_steps": 4})
        runs.append(train_here({**document, "adapter": KINDS[kind]}, tmp_path / str(again)))
    assert runs[1].losses == pytest.approx(runs[0].losses, abs=1e-5)
    assert runs[1].grad_norms == pytest.approx(runs[0].grad_norms, rel=1e-4)


@pytest.mark.parametrize("kind", ["prompt_tuning", "p_tuning", "prefix_tuning"])
def test_in_bf16_on_four_bits(job: dict[str, Any], tmp_path: Path, kind: str) -> None:
    job = changed(job, precision="bf16", train={"learning_rate": 1e-1})
    adapter = {"kind": kind, "num_virtual_tokens": 5, "base_4bit": True}
    run = train_here({**job, "adapter": adapter}, tmp_path / "run")
    measured = json.loads((run.path / "evaluation.json").read_text())
    assert measured["after"]["validation"]["loss"] < measured["before"]["validation"]["loss"] - 0.02
    assert all(str(w.dtype) == "torch.float32" for w in read_weights(run.path / "model").values())


def test_impossible_jobs_are_refused(document: dict[str, Any], tmp_path: Path) -> None:
    packed = changed(document, data={"packing": True}, adapter=KINDS["prompt tuning"])
    with pytest.raises(JobError, match="a packed row holds several documents"):
        parse_job(packed, "test")
    with pytest.raises(JobError, match=r"adapter\.init_text: is required by init: text"):
        parse_job({**document, "adapter": {"kind": "prompt_tuning", "init": "text"}}, "test")
    too_many = {**document, "adapter": {"kind": "p_tuning", "num_virtual_tokens": 200}}
    with pytest.raises(ModelError, match=r"296 positions; the model has 256.*to 56"):
        train_here(too_many, tmp_path / "run")


def test_cannot_be_merged(job: dict[str, Any], tmp_path: Path) -> None:
    run = train_here({**job, "adapter": KINDS["prompt tuning"]}, tmp_path / "run")
    following = changed(job, model={"source": str(run.path / "model")})
    with pytest.raises(ModelError, match="cannot be merged"):
        train_here(following, tmp_path / "following")
