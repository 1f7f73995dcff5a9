"""An adapter on chosen layers is PEFT's own, and everything that counts it counts those layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from planning import make_plan
from planning.duration import flops_per_token as planned_flops
from planning.hf_config import read_shape
from planning.trainable_params import lowest_trained_layer
from tests.factories import make_tiny_model
from tests.parity.test_soft_prompts import fresh
from tests.run_commands import changed, read_weights, train_here
from training.adapters.compose import apply
from training.adapters.layer_selection import layer_index
from training.adapters.target_modules import module_options
from training.config.adapters import Lora
from training.config.load import parse_job
from training.errors import JobError, ModelError
from training.export.merged_folder import merged_folder
from training.models.flops import flops_per_token

FOUR: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 64,
    },
    "gpt2": {"n_embd": 16, "n_layer": 4, "n_head": 2, "vocab_size": 64},
    "qwen2_moe": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8,
        "num_experts": 4,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 64,
    },
}


@pytest.fixture(scope="module")
def four_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of four layers with a tokenizer."""
    return make_tiny_model(tmp_path_factory.mktemp("four") / "model", num_hidden_layers=4)


@pytest.fixture
def job(document: dict[str, Any], four_layers: Path) -> dict[str, Any]:
    return changed(document, model={"source": str(four_layers)}, train={"learning_rate": 5e-3})


def small(family: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **FOUR[family]))


def trained(model: Any) -> dict[str, torch.Size]:
    return {n: p.shape for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("family", FOUR)
def test_all_linear_layers_of_some_layers_are_those_of_peft(family: str) -> None:
    """PEFT refuses `all-linear` with layers: compare with its adapter on all, less the others."""
    every = get_peft_model(
        small(family), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    )
    wanted = {
        n: s for n, s in trained(every).items() if layer_index(n[len("base_model.") :]) in (1, 3)
    }
    section = Lora(kind="lora", r=2, layers_to_transform=[1, 3])
    base = small(family)
    ours = get_peft_model(base, LoraConfig(r=2, **module_options(base, section)))
    assert trained(ours) == wanted
    assert 0 < len(wanted) < len(trained(every))


@pytest.mark.parametrize(
    ("section", "options"),
    [
        (
            {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 2},
            {"layers_to_transform": 2},
        ),
        (
            {"target_modules": "q_proj", "layers_to_transform": [0, 3], "layers_pattern": "layers"},
            {"layers_to_transform": [0, 3], "layers_pattern": "layers"},
        ),
    ],
    ids=["one layer", "a pattern"],
)
def test_named_modules_of_some_layers_are_those_of_peft(
    job: dict[str, Any], section: dict[str, Any], options: dict[str, Any]
) -> None:
    _, ours = fresh(job, {"kind": "lora", "r": 2, **section})
    names = section["target_modules"]
    targets = [names] if isinstance(names, str) else names
    plain = AutoModelForCausalLM.from_pretrained(job["model"]["source"])
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=targets, **options)
    assert trained(ours) == trained(get_peft_model(plain, config))


def test_adalora_on_some_layers_is_that_of_peft(job: dict[str, Any]) -> None:
    _, ours = fresh(
        job, {"kind": "adalora", "target_modules": ["q_proj"], "layers_to_transform": [3]}
    )
    plain = AutoModelForCausalLM.from_pretrained(job["model"]["source"])
    config = AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=12, target_r=8, total_step=1,
        target_modules=["q_proj"], layers_to_transform=[3],
    )  # fmt: skip
    theirs = {n: s for n, s in trained(get_peft_model(plain, config)).items() if "ranknum" not in n}
    assert trained(ours) == theirs


def test_it_trains_resumes_merges_and_exports(
    job: dict[str, Any], four_layers: Path, tmp_path: Path
) -> None:
    adapter = {"kind": "lora", "r": 4, "layers_to_transform": [2, 3], "layer_decay": 0.5}
    job = changed(job, adapter=adapter, checkpoint={"every": "5 steps"})
    run = train_here(job, tmp_path / "run")
    assert run.losses[-1] < run.losses[0] - 0.1
    weights = run.weights
    assert {layer_index(name) for name in weights} == {2, 3}
    assert "logits differ" in merged_folder(run.path / "model", tmp_path / "merged")
    loaded = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(four_layers), run.path / "model"
    ).merge_and_unload()
    ours, before = read_weights(tmp_path / "merged"), read_weights(four_layers)
    for name, tensor in loaded.state_dict().items():
        assert torch.allclose(ours[name], tensor, atol=1e-6), name
        moved = ".layers.2." in name or ".layers.3." in name
        assert torch.equal(ours[name], before[name]) != (moved and "proj" in name), name
    for path in (run.path / "model", run.path / "checkpoints/checkpoint-10"):
        path.rename(tmp_path / f"old-{path.name}")
    again = train_here(job, run.path)
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.weights.items())


def test_every_problem_of_a_choice_is_named_at_once(job: dict[str, Any]) -> None:
    adapter = {
        "kind": "lora",
        "target_modules": ["q_proj", "qkv"],
        "modules_to_save": ["head"],
        "layers_to_transform": [1, 4, 9],
        "layers_pattern": ["blocks", "layers"],
    }
    with pytest.raises(ModelError) as error:
        fresh(job, adapter)
    for words in (
        "no module qkv", "no module head", "no layer 4, 9. It has layers 0 to 3",
        "no list of layers named blocks. It has layers",
    ):  # fmt: skip
        assert words in str(error.value)
    outside = {"kind": "lora", "target_modules": ["q_proj", "lm_head"], "layers_to_transform": [1]}
    with pytest.raises(ModelError, match="lm_head is in none of the layers 1"):
        fresh(job, outside)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"layers_to_transform": [1, 1]}, "names layer 1 more than once"),
        ({"layers_to_transform": [-1]}, "greater than or equal to 0"),
        ({"layers_to_transform": []}, "at least 1 item"),
        ({"layers_pattern": ["layers"]}, "Set adapter.layers_to_transform"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(
    job: dict[str, Any], keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobError, match=words):
        parse_job({**job, "adapter": {"kind": "lora", **keys}}, "test")


@pytest.mark.parametrize("combination", ["cat", "svd", "linear"])
def test_a_merge_of_adapters_on_different_layers_has_the_layers_of_both(
    job: dict[str, Any], tmp_path: Path, combination: str
) -> None:
    base = AutoModelForCausalLM.from_pretrained(job["model"]["source"])
    deltas: dict[str, torch.Tensor] = {}
    folders = {}
    for name, layers in (("low", [0]), ("high", [2, 3])):
        torch.manual_seed(layers[0])
        section = Lora(kind="lora", r=2, target_modules=["q_proj"], layers_to_transform=layers)
        plain = AutoModelForCausalLM.from_pretrained(job["model"]["source"])
        options = module_options(plain, section)
        tuned = get_peft_model(plain, LoraConfig(r=2, init_lora_weights=False, **options))
        tuned.save_pretrained(tmp_path / name)
        folders[name] = str(tmp_path / name)
        combined = tuned.merge_and_unload().state_dict()
        deltas |= {n: t - base.state_dict()[n] for n, t in combined.items() if "q_proj" in n
                   and not torch.equal(t, base.state_dict()[n])}  # fmt: skip
    assert len(deltas) == 3
    composed = parse_job(
        {
            **job,
            "compose": {
                "adapters": folders,
                "method": {"kind": "merge", "combination": combination},
            },
        },
        "test",
    )
    tokenizer = AutoTokenizer.from_pretrained(job["model"]["source"])
    assert composed.adapter is not None  # type: ignore[union-attr]  # a job without stages
    if combination == "linear":
        with pytest.raises(ModelError, match="the same targets"):
            apply(base, composed.adapter, tokenizer=tokenizer, max_length=96)  # type: ignore[union-attr]  # a job without stages
        return
    before = {n: t.clone() for n, t in base.state_dict().items()}
    merged = apply(base, composed.adapter, tokenizer=tokenizer, max_length=96)  # type: ignore[union-attr]  # a job without stages
    merged.save_pretrained(tmp_path / "both")
    fresh_base = AutoModelForCausalLM.from_pretrained(job["model"]["source"])
    state = PeftModel.from_pretrained(fresh_base, tmp_path / "both").merge_and_unload().state_dict()
    for name, tensor in before.items():
        assert torch.allclose(state[name], tensor + deltas.get(name, 0.0), atol=1e-5), name


def test_plan_and_flops_count_the_chosen_layers(job: dict[str, Any]) -> None:
    adapter = {"kind": "lora", "r": 4, "layers_to_transform": [2, 3]}
    job["precision"] = "fp32"
    parsed = parse_job({**job, "adapter": adapter}, "test")
    _, tuned = fresh(job, adapter)
    plan = make_plan(parsed)
    assert plan.learned == sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    everywhere = make_plan(parse_job({**job, "adapter": {"kind": "lora", "r": 4}}, "test"))
    assert plan.learned == everywhere.learned / 2
    for part in ("activations", "optimizer"):
        assert plan.memory_gib[part] < everywhere.memory_gib[part]
    # Below layer 2 there is no backward pass: 2 FLOPs per weight, not 4, and 1/3 of attention.
    shape = read_shape(parsed)  # type: ignore[arg-type]  # a job without stages
    lowest = lowest_trained_layer(parsed, shape, checkpointing=False)  # type: ignore[arg-type]  # a job without stages
    assert lowest == 2
    counted = planned_flops(shape, 96, plan.learned, lowest)
    # The plan counts adapters' own weights within the model's, and neither norms nor biases.
    assert counted == pytest.approx(flops_per_token(tuned, 96), rel=0.1)
    assert flops_per_token(tuned, 96) < 0.8 * flops_per_token(
        fresh(job, {"kind": "lora", "r": 4})[1], 96
    )


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"adapter": {"kind": "lora", "layers_to_transform": [3, 4, 7]}}, "no layer 4, 7"),
        ({"model": {"freeze": {"layers": 6}}}, "Set at most 4"),
    ],
    ids=["adapter", "freeze"],
)
def test_a_plan_refuses_layers_that_the_model_does_not_have(
    job: dict[str, Any], section: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobError, match=words):
        make_plan(parse_job(changed(job, **section), "test"))
