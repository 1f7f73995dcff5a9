"""A bottleneck adapter is what its formula says, and PEFT's in all else."""

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
from tests.parity.test_soft_prompts import fresh
from tests.run_commands import changed, train_here
from training.config.load import parse_job
from training.errors import JobError, ModelError

PLACEMENTS = ["sequential", "parallel"]
ACTIVATIONS = {
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
}
STEPS, CUT = 12, 6


def adapter(**keys: Any) -> dict[str, Any]:
    return {"kind": "bottleneck", "size": 8, **keys}


def shaken(model: Any) -> Any:
    """Give every bottleneck weights that matter."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "bottleneck_" in name:
            parameter.data.normal_(std=0.3)
    return model


def by_hand(base: Any, tuned: Any, ids: torch.Tensor, keys: dict[str, Any]) -> torch.Tensor:
    """Return the logits of a Llama with bottlenecks, computed layer by layer from its parts."""
    state = dict(tuned.named_parameters())
    model = base.model

    def change(layer: int, where: str, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        prefix = f"base_model.model.model.layers.{layer}.{where}.bottleneck_"
        if f"{prefix}down.default.weight" not in state:
            return after
        read = after if keys.get("placement", "sequential") == "sequential" else before
        down = read @ state[f"{prefix}down.default.weight"].T + state[f"{prefix}down.default.bias"]
        inner = ACTIVATIONS[keys.get("activation", "relu")](down)
        up = inner @ state[f"{prefix}up.default.weight"].T + state[f"{prefix}up.default.bias"]
        return after + keys.get("scaling", 1.0) * up

    def inside(module: Any) -> Any:
        return getattr(module, "base_layer", module)

    positions = torch.arange(ids.shape[1])[None]
    hidden = model.embed_tokens(ids)
    rotary = model.rotary_emb(hidden, position_ids=positions)
    for number, layer in enumerate(model.layers):
        normed = layer.input_layernorm(hidden)
        said, _ = inside(layer.self_attn)(
            hidden_states=normed, position_embeddings=rotary, attention_mask=None
        )
        hidden = hidden + change(number, "self_attn", normed, said)
        normed = layer.post_attention_layernorm(hidden)
        hidden = hidden + change(number, "mlp", normed, inside(layer.mlp)(normed))
    logits: torch.Tensor = base.lm_head(model.norm(hidden))
    return logits


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_changes_nothing_at_first(document: dict[str, Any], placement: str) -> None:
    base, _ = fresh(document, {"kind": "lora", "r": 2})
    ids = torch.randint(3, 300, (2, 9))
    with torch.no_grad():
        before = base(input_ids=ids).logits
        _, tuned = fresh(document, adapter(placement=placement))
        assert (tuned(input_ids=ids).logits - before).abs().max() <= 1e-6


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("after", [["attention", "mlp"], ["mlp"], ["attention"]], ids=str)
def test_forward_pass_is_the_formula(
    document: dict[str, Any], placement: str, activation: str, after: list[str]
) -> None:
    keys = {"placement": placement, "activation": activation, "after": after, "scaling": 2.0}
    base, tuned = fresh(document, adapter(**keys))
    shaken(tuned)
    ids = torch.randint(3, 300, (2, 9))
    with torch.no_grad():
        expected = by_hand(base, tuned, ids, keys)
        ours = tuned(input_ids=ids).logits
        with tuned.disable_adapter():
            without = tuned(input_ids=ids).logits
    assert (ours - expected).abs().max() < 1e-5
    assert (ours - without).abs().max() > 1e-2, "the adapter changes nothing"


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_learns_reads_back_and_goes_on(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path, placement: str
) -> None:
    job = changed(
        document,
        data={"validation": {"split": "20%"}},
        train={"max_steps": STEPS, "learning_rate": 1e-2},
        checkpoint={"every": f"{CUT} steps"},
        adapter=adapter(placement=placement, dropout=0.2),
    )
    whole = train_here(job, tmp_path / "run")
    measured = json.loads((whole.path / "evaluation.json").read_text())
    after = measured["after"]["validation"]["loss"]
    assert after < measured["before"]["validation"]["loss"] - 0.1
    assert {name.split(".")[-3] for name in whole.weights} == {"self_attn", "mlp"}

    base = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(whole.path / "model")
    read = PeftModel.from_pretrained(base, whole.path / "model").eval()
    logits, loss = held_out(read, job, tokenizer, tmp_path)
    assert loss == pytest.approx(after, abs=1e-5)

    # Two of them follow each other; switched off, neither is there.
    read.load_adapter(str(whole.path / "model"), "again")
    read.base_model.set_adapter(["default", "again"])
    both, _ = held_out(read, job, tokenizer, tmp_path)
    assert (both - logits).abs().max() > 1e-3
    read.set_adapter("again")
    again, _ = held_out(read, job, tokenizer, tmp_path)
    assert torch.equal(again, logits)

    weights = whole.weights
    shutil.rmtree(whole.path / "checkpoints" / f"checkpoint-{STEPS}")
    shutil.rmtree(whole.path / "model")
    resumed = train_here(job, whole.path)
    assert all(torch.equal(weights[name], tensor) for name, tensor in resumed.weights.items())


def test_dropout_leaves_out_whole_adapters(document: dict[str, Any]) -> None:
    """A row either has a layer's adapter, scaled up, or does without it altogether."""
    base, tuned = fresh(document, adapter(after=["mlp"], dropout=0.4))
    shaken(tuned)
    layer = base.model.layers[0].mlp
    hidden = torch.randn(400, 3, base.config.hidden_size)
    layer.eval()
    with torch.no_grad():
        change = layer(hidden) - layer.base_layer(hidden)
        layer.train()
        dropped = layer(hidden) - layer.base_layer(hidden)
    kept = (dropped / change).flatten(1).median(1).values
    assert {round(float(value), 2) for value in kept} == {0.0, round(1 / 0.6, 2)}
    assert 0.5 < (kept > 0).float().mean() < 0.7


def test_impossible_jobs_are_refused(document: dict[str, Any], tmp_path: Path) -> None:
    both = {**document, "adapter": adapter(reduction_factor=4)}
    with pytest.raises(JobError, match=r"adapter\.size: give size or reduction_factor"):
        parse_job(both, "test")
    for keys, says in (
        ({"size": 64}, "size 64 is wider than the model"),
        ({"size": None, "reduction_factor": 64}, "leaves no width in a model 32 wide"),
    ):
        with pytest.raises(ModelError, match=says):
            train_here({**document, "adapter": adapter(**keys)}, tmp_path / says[:6])


def test_cannot_be_merged(document: dict[str, Any], tmp_path: Path) -> None:
    run = train_here({**document, "adapter": adapter()}, tmp_path / "run")
    following = changed(document, model={"source": str(run.path / "model")})
    with pytest.raises(ModelError, match="cannot be merged into weights: there is an activation"):
        train_here(following, tmp_path / "following")
    _, tuned = fresh(document, adapter())
    with pytest.raises(ValueError, match="cannot be merged"):
        tuned.merge_and_unload()
