"""Starts of a LoRA are those of PEFT, on a base that stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

from tests.parity.test_soft_prompts import fresh
from tests.run_commands import changed, read_weights, train_here
from training.adapters import random_init
from training.errors import ModelError
from training.export.merged_folder import merged_folder

PISSA = {"kind": "lora", "r": 3, "alpha": 6, "init": "pissa"}
OLORA = {**PISSA, "init": "olora"}
DECOMPOSED = pytest.mark.parametrize("adapter", [PISSA, OLORA], ids=["pissa", "olora"])


@DECOMPOSED
@pytest.mark.parametrize("rslora", [False, True], ids=["alpha / r", "alpha / root of r"])
def test_one_step_is_that_of_peft(
    document: dict[str, Any], adapter: dict[str, Any], rslora: bool
) -> None:
    """Components may come with either sign; what they come to may not."""
    base, ours = fresh(document, {**adapter, "use_rslora": rslora})
    source = document["model"]["source"]
    config = LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules="all-linear",
        init_lora_weights=adapter["init"], use_rslora=rslora,
    )  # fmt: skip
    plain = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    theirs = get_peft_model(plain, config)
    ids = torch.arange(4, 68).reshape(4, 16)
    before = logits(theirs, ids)
    with ours.disable_adapter():
        assert (logits(ours, ids) - logits(base, ids)).abs().max() < 1e-5
    for model in (ours, theirs):
        learned = [p for p in model.parameters() if p.requires_grad]
        steps = torch.optim.SGD(learned, lr=0.5)
        for _ in range(3):
            steps.zero_grad()
            torch.nn.functional.cross_entropy(
                model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1),
                ids[:, 1:].flatten(),
            ).backward()
            steps.step()
    moved = (logits(theirs, ids) - before).abs().max()
    assert moved > 0.1
    assert (logits(ours, ids) - logits(theirs, ids)).abs().max() < 1e-3 * moved


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return found


def test_it_starts_from_the_best_approximation(document: dict[str, Any], tiny_model: Path) -> None:
    _, tuned = fresh(document, PISSA)
    layer = tuned.get_submodule("base_model.model.model.layers.1.mlp.up_proj")
    down, up = (m["default"].weight.detach() for m in (layer.lora_A, layer.lora_B))
    weight = read_weights(tiny_model)["model.layers.1.mlp.up_proj.weight"]
    found = layer.scaling["default"] * up[:, :3] @ down[:3]
    least = torch.linalg.svdvals(weight)[3:].square().sum().sqrt()
    assert float((weight - found).norm()) == pytest.approx(float(least), rel=1e-3)
    ids = torch.arange(4, 36).reshape(2, 16)
    with tuned.disable_adapter():
        untouched = logits(tuned, ids)
    assert (logits(tuned, ids) - untouched).abs().max() < 1e-5 * untouched.abs().max()


@DECOMPOSED
def test_half_of_it_stays_and_it_merges_into_the_model_itself(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path, adapter: dict[str, Any]
) -> None:
    job = changed(document, train={"learning_rate": 5e-3}, checkpoint={"every": "5 steps"})
    run = train_here({**job, "adapter": adapter}, tmp_path / "run")
    assert run.losses[-1] < run.losses[0] - 0.1
    for name, tensor in run.weights.items():
        first, second = tensor.chunk(2, dim=0 if "lora_A" in name else 1)
        apart = (first - second) if "lora_A" in name else (first + second)
        assert apart.abs().max() > 1e-4, f"{name}: the first half did not learn"
    assert "logits differ" in merged_folder(run.path / "model", tmp_path / "merged")
    loaded = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), run.path / "model"
    )
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.arange(4, 36).reshape(2, 16)
    assert (logits(loaded.eval(), ids) - logits(merged.eval(), ids)).abs().max() < 1e-4


@pytest.mark.parametrize(
    "adapter", [PISSA, OLORA, {"kind": "lora", "r": 4, "init": "orthogonal"}], ids=str
)
def test_it_goes_on_from_a_checkpoint_as_if_never_stopped(
    document: dict[str, Any], tmp_path: Path, adapter: dict[str, Any]
) -> None:
    job = changed(document, train={"learning_rate": 5e-3}, checkpoint={"every": "5 steps"})
    job["adapter"] = adapter
    run = train_here(job, tmp_path / "run")
    weights = run.weights
    for path in (run.path / "model", run.path / "checkpoints/checkpoint-10"):
        path.rename(tmp_path / f"old-{path.name}")
    again = train_here(job, run.path)
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.weights.items())


@DECOMPOSED
def test_a_rank_beyond_a_layer_is_refused(
    document: dict[str, Any], adapter: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=r"adapter\.r 64 is more than .* has components"):
        fresh(document, {**adapter, "r": 64})


def layers_of(tuned: Any) -> list[Any]:
    found = [m for _, m in tuned.named_modules() if isinstance(m, LoraLayer)]
    assert len(found) == 14
    return found


def test_gaussian_is_drawn_as_in_peft(document: dict[str, Any]) -> None:
    """The same seed draws the same numbers."""
    _, ours = fresh(document, {"kind": "lora", "r": 4, "init": "gaussian"})
    plain = AutoModelForCausalLM.from_pretrained(document["model"]["source"], dtype=torch.float32)
    torch.manual_seed(0)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights="gaussian"
    )
    theirs = dict(get_peft_model(plain, config).named_parameters())
    drawn = {n: p for n, p in ours.named_parameters() if "lora_" in n}
    assert len(drawn) == 28
    assert all(torch.equal(theirs[name], tensor) for name, tensor in drawn.items())
    _, default = fresh(document, {"kind": "lora", "r": 4})
    assert not torch.equal(
        layers_of(default)[0].lora_A["default"].weight, layers_of(ours)[0].lora_A["default"].weight
    )


def test_orthogonal_is_drawn_as_in_peft_and_changes_nothing(document: dict[str, Any]) -> None:
    _, tuned = fresh(document, {"kind": "lora", "r": 4, "init": "orthogonal"})
    ids = torch.arange(4, 36).reshape(2, 16)
    with tuned.disable_adapter():
        untouched = logits(tuned, ids)
    assert (logits(tuned, ids) - untouched).abs().max() < 1e-5 * untouched.abs().max()
    for layer in layers_of(tuned):
        torch.manual_seed(1)
        random_init.STARTS["orthogonal"](
            layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data
        )
        ours = [m["default"].weight.clone() for m in (layer.lora_A, layer.lora_B)]
        torch.manual_seed(1)
        layer.orthogonal_init("default")
        theirs = [m["default"].weight for m in (layer.lora_A, layer.lora_B)]
        assert all(
            torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(ours, theirs, strict=True)
        )


def test_orthogonal_changes_nothing_in_bf16_either(document: dict[str, Any]) -> None:
    """PEFT rounds both matrices to the dtype of the base, whose product is then not zero."""
    _, tuned = fresh(
        {**document, "precision": "bf16"}, {"kind": "lora", "r": 4, "init": "orthogonal"}
    )
    for layer in layers_of(tuned):
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert layer.get_base_layer().weight.dtype == torch.bfloat16
        assert (b @ a).abs().max() < 1e-6 * b.norm() * a.norm()


def test_xavier_uniform_is_that_of_torch(document: dict[str, Any]) -> None:
    _, tuned = fresh(document, {"kind": "lora", "r": 4, "init": "xavier_uniform"})
    for layer in layers_of(tuned):
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        bound = (6 / sum(a.shape)) ** 0.5
        assert 0.9 * bound < a.abs().max() <= bound
        assert not b.any()


@pytest.mark.parametrize("init", ["gaussian", "orthogonal", "xavier_uniform"])
def test_each_start_learns_and_exports(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path, init: str
) -> None:
    job = changed(document, train={"learning_rate": 5e-3}, precision="bf16")
    run = train_here({**job, "adapter": {"kind": "lora", "r": 4, "init": init}}, tmp_path / "run")
    assert run.losses[-1] < run.losses[0] - 0.1
    assert "logits differ" in merged_folder(run.path / "model", tmp_path / "merged")
    loaded = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), run.path / "model"
    )
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.arange(4, 36).reshape(2, 16)
    assert (logits(loaded.eval(), ids) - logits(merged.eval(), ids)).abs().max() < 1e-4
