"""Added tokens start as the average of their pieces, are trained, and survive every way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader, TokenType
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from planning import make_plan
from tests.factories import make_tiny_model, write_jsonl
from tests.parity.test_gguf import make
from tests.run_commands import changed, read_weights, train_here
from tests.two_node import train_in_pair
from training.config.load import parse_job
from training.errors import JobError, ModelError
from training.export.formats import adapter_folder, gguf
from training.export.merged_folder import merged_folder

TERMS = ["tachycardia", "<|note|>", "beta blocker"]
INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
IDS = torch.tensor([[5, 320, 9, 321, 40, 322, 17]])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with tied embeddings, one with untied ones, and one with more rows than tokens."""
    home = tmp_path_factory.mktemp("models")
    return {
        "tied": make_tiny_model(home / "tied", tie_word_embeddings=True),
        "untied": make_tiny_model(home / "untied"),
        "padded": make_tiny_model(home / "padded", vocab_size=384),
    }


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [
        f"A {TERMS[n % 3]} of {n} after {TERMS[(n + 1) % 3]} is {TERMS[(n + 2) % 3]} again."
        for n in range(48)
    ]
    pairs = [{"prompt": f"What is {n}?", "completion": text} for n, text in enumerate(texts)]
    return write_jsonl(tmp_path_factory.mktemp("rows") / "rows.jsonl", pairs)


@pytest.fixture
def job(document: dict[str, Any], models: dict[str, Path], rows: Path) -> dict[str, Any]:
    return changed(
        document,
        model={"source": str(models["untied"]), "add_tokens": TERMS},
        data={"train": str(rows)},
        train={"learning_rate": 1e-2, "max_steps": 6},
        checkpoint={"every": "3 steps"},
    )


def averages(base: Path) -> dict[str, torch.Tensor]:
    """The start by the definition: Transformers' tokenizer, and torch's mean."""
    tokenizer, weights = AutoTokenizer.from_pretrained(base), read_weights(base)
    pieces = [tokenizer(term, add_special_tokens=False)["input_ids"] for term in TERMS]
    assert all(len(one) > 1 for one in pieces)
    return {
        name: torch.stack([weights[name][one].mean(0) for one in pieces])
        for name in (INPUT, OUTPUT)
        if name in weights
    }


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return result


@pytest.mark.parametrize("kind", ["tied", "untied", "padded"])
@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "r": 4}], ids=["full", "lora"])
def test_they_start_as_averages_are_trained_saved_and_exported(
    job: dict[str, Any],
    models: dict[str, Path],
    tmp_path: Path,
    kind: str,
    adapter: dict[str, Any] | None,
) -> None:
    base = models[kind]
    job["model"]["source"] = str(base)
    if adapter:
        job["adapter"] = adapter
    run = train_here(job, tmp_path / "run")
    assert run.losses[-1] < run.losses[0]
    before, start = read_weights(base), read_weights(run.path / "start")
    new = slice(320, 323)
    for name, average in averages(base).items():
        assert len(start[name]) == (384 if kind == "padded" else 323)
        assert torch.equal(start[name][new], average)
        assert torch.equal(start[name][:320], before[name][:320])
    assert (OUTPUT in start) == (kind != "tied")

    said = merged_folder(run.path / "model", tmp_path / "out")
    assert ("logits differ" in said) == (adapter is not None)
    after = read_weights(tmp_path / "out")
    for name in averages(base):
        assert ((after[name][new] - start[name][new]).abs().amax(1) > 1e-4).all()
        if adapter:
            assert torch.equal(after[name][:320], start[name][:320])
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert merged.config.vocab_size == len(start[INPUT])
    if adapter:
        adapter_folder(run.path / "model", tmp_path / "adapter")
        plain = AutoModelForCausalLM.from_pretrained(run.path / "start")
        loaded = PeftModel.from_pretrained(plain, run.path / "model")
        assert (logits(loaded) - logits(merged)).abs().max() < 1e-4
    for folder in (run.path / "model", tmp_path / "out"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer("one beta blocker, <|note|>", add_special_tokens=False)["input_ids"]
        assert 322 in ids and 321 in ids
        assert tokenizer.decode(ids) == "one beta blocker, <|note|>"

    plan = make_plan(parse_job(job, "test"))
    assert plan.learned == sum(tensor.numel() for tensor in run.weights.values())
    assert plan.parameters == sum(tensor.numel() for tensor in start.values())
    assert "a copy has the rows of the added tokens" in plan.arithmetic[0]


@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "r": 4}], ids=["full", "lora"])
def test_a_resumed_run_ends_with_the_same_weights(
    job: dict[str, Any], tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    if adapter:
        job["adapter"] = adapter
    run = train_here(job, tmp_path / "run")
    weights = run.weights
    for path in (run.path / "model", run.path / "checkpoints/checkpoint-6"):
        path.rename(tmp_path / f"old-{path.name}")
    again = train_here(job, run.path)
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.weights.items())


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(job: dict[str, Any], tmp_path: Path) -> None:
    full = changed(job, train={"micro_batch_size": 2})
    jobs = {"full": full, "lora": changed(full, adapter={"kind": "lora", "r": 4})}
    alone = {kind: train_here(one, tmp_path / kind) for kind, one in jobs.items()}
    shared = {
        f"{kind}, zero {zero}": changed(jobs[kind], sharding={"zero": zero})
        for kind, zeros in (("full", (0, 2, 3)), ("lora", (0, 2)))
        for zero in zeros
    }
    for case, two in train_in_pair(shared, tmp_path / "pair").items():
        one = alone[case.partition(",")[0]]
        assert two.losses == pytest.approx(one.losses, abs=1e-4), case
        assert two.weights.keys() == one.weights.keys(), case
        for name, tensor in two.weights.items():
            assert torch.allclose(tensor, one.weights[name], atol=2e-3), (case, name)


@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "r": 4}], ids=["full", "lora"])
def test_they_are_tokens_of_a_gguf_file(
    job: dict[str, Any], tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    base = make(tmp_path / "base", "qwen2")
    job["model"]["source"] = str(base)
    if adapter:
        job["adapter"] = adapter
    run = train_here(job, tmp_path / "run")
    assert "every bit as it was" in gguf(run.path / "model", tmp_path / "out/model.gguf")
    there = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", gguf_file="model.gguf", dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    new = tokenizer.convert_tokens_to_ids(TERMS)
    merged_folder(run.path / "model", tmp_path / "merged")
    here = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    ids = torch.tensor([[5, *new, 7]])
    torch.testing.assert_close(logits(there, ids), logits(here, ids), atol=1e-4, rtol=1e-4)
    reader = GGUFReader(tmp_path / "out/model.gguf")
    tokens = reader.get_field("tokenizer.ggml.tokens")
    types = reader.get_field("tokenizer.ggml.token_type")
    assert tokens is not None and types is not None
    assert [tokens.contents()[i] for i in new] == TERMS
    assert [types.contents()[i] for i in new] == [int(TokenType.USER_DEFINED)] * 3


@pytest.mark.parametrize("second", [None, {"kind": "lora", "r": 2}], ids=["full", "lora"])
def test_an_adapter_with_added_tokens_is_a_start(
    job: dict[str, Any], models: dict[str, Path], tmp_path: Path, second: dict[str, Any] | None
) -> None:
    job["model"]["source"] = str(models["tied"])
    first = train_here({**job, "adapter": {"kind": "lora", "r": 4}}, tmp_path / "first")
    later = changed(job, model={"source": str(first.path / "model"), "add_tokens": []})
    later = changed(later, train={"learning_rate": 1e-9})
    if second:
        later["adapter"] = second
    run = train_here(later, tmp_path / "second")
    merged_folder(first.path / "model", tmp_path / "one")
    one = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    if second:
        plain = AutoModelForCausalLM.from_pretrained(run.path / "start")
        two: Any = PeftModel.from_pretrained(plain, run.path / "model")
    else:
        two = AutoModelForCausalLM.from_pretrained(run.path / "model")
    assert (logits(one) - logits(two)).abs().max() < 1e-4
    # And more tokens on top of an adapter.
    job["model"] = {"source": str(first.path / "model"), "add_tokens": ["systole"]}
    third = train_here({**job, "adapter": {"kind": "lora", "r": 2}}, tmp_path / "third")
    assert len(read_weights(third.path / "start")[INPUT]) == 324


def test_tokens_of_a_larger_tokenizer_are_named_and_can_be_added(
    job: dict[str, Any], models: dict[str, Path], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models["untied"])
    tokenizer.add_tokens(TERMS)
    tokenizer.save_pretrained(tmp_path / "larger")
    job["model"] = {"source": str(models["untied"]), "tokenizer": str(tmp_path / "larger")}
    with pytest.raises(ModelError, match=r"'tachycardia', .* Name them in model\.add_tokens"):
        train_here(job, tmp_path / "refused")
    job["model"]["add_tokens"] = TERMS
    run = train_here(job, tmp_path / "run")
    start = read_weights(run.path / "start")
    for name, average in averages(models["untied"]).items():
        assert torch.equal(start[name][320:], average)


def test_tokens_that_the_model_has_are_refused(
    job: dict[str, Any], models: dict[str, Path], tmp_path: Path
) -> None:
    vocab = sorted(AutoTokenizer.from_pretrained(models["tied"]).get_vocab())
    known = next(
        token for token in vocab if len(token) == 3 and token.isascii() and token.isalpha()
    )
    job["model"]["add_tokens"] = [known, "</s>", "systole"]
    with pytest.raises(ModelError, match=f"{known}.*</s>.* already"):
        train_here(job, tmp_path / "run")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"model": {"add_tokens": [" a", "b", "b"]}}, "without spaces around it"),
        ({"model": {"add_tokens": ["b", "b"]}}, "more than once"),
        ({"model": {"freeze": {"embeddings": True}}}, "freezes them"),
        ({"adapter": {"kind": "ia3"}}, "would not be trained by adapter ia3"),
        ({"adapter": {"kind": "lora"}, "sharding": {"zero": 3}}, "ZeRO 3 does not gather"),
        ({"method": {"kind": "dpo"}}, "in a stage with method pretrain or sft"),
    ],
)
def test_what_does_not_go_with_them_is_refused(
    job: dict[str, Any], sections: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobError, match=words):
        parse_job(changed(job, **sections), "test")
