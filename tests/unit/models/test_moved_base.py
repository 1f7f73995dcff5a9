"""A job, an export or answers with an adapter whose base is no longer where it was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.job_inputs import collect_inputs, hub_names, rewrite_paths
from planning.hf_config import read_shape
from tests.factories import make_tiny_model, write_jsonl
from tests.run_commands import changed, train_here
from training.config import Job
from training.config.adapter_bases import with_recorded_bases
from training.config.adapter_files import base_problem, read_adapter_config
from training.config.input_paths import require_inputs
from training.config.load import parse_job
from training.errors import JobError, ModelError
from training.evaluation.command import answer_requests
from training.export.command import export_model
from training.models.base_digest import write_base_digest
from training.models.merge import merged


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return models: the base where it is now, and others of another width or number of layers."""
    home = tmp_path_factory.mktemp("models")
    wide = {"hidden_size": 64, "intermediate_size": 176, "head_dim": 16}
    kinds: dict[str, dict[str, Any]] = {
        "base": {},
        "wide": wide,
        "deep": {"num_hidden_layers": 3},
        "shallow": {"num_hidden_layers": 1},
    }
    return {name: make_tiny_model(home / name, **shape) for name, shape in kinds.items()}


@pytest.fixture(scope="module")
def adapter(shapes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an adapter saved by PEFT that records a folder which no longer exists."""
    folder = tmp_path_factory.mktemp("adapter") / "model"
    base = AutoModelForCausalLM.from_pretrained(shapes["base"])
    targets = ["q_proj", "v_proj", "down_proj"]
    tuned = get_peft_model(base, LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=targets))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    tuned.save_pretrained(folder)
    AutoTokenizer.from_pretrained(shapes["base"]).save_pretrained(folder)
    record(folder, "/nowhere/base")
    write_base_digest(folder, str(shapes["base"]))
    return folder


def record(adapter: Path, base: str) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    (adapter / "adapter_config.json").write_text(json.dumps(config))


def by_peft(base: Path, adapter: Path) -> Any:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(3, 60)[None], use_cache=False).logits
    return found


def starting(document: dict[str, Any], adapter: Path, **model: Any) -> dict[str, Any]:
    return changed(document, model={"source": str(adapter), **model})


def test_a_moved_base_is_named_before_anything_is_loaded(
    document: dict[str, Any], adapter: Path
) -> None:
    job = parse_job(starting(document, adapter), "test")
    with pytest.raises(ModelError, match=r"/nowhere/base is not on this machine. Set model.base_m"):
        require_inputs(job, Path())


def test_training_starts_from_the_adapter_on_the_base_that_the_job_names(
    document: dict[str, Any], adapter: Path, shapes: dict[str, Path], tmp_path: Path
) -> None:
    job = starting(document, adapter, base_model=str(shapes["base"]))
    still = {"learning_rate": 1e-9, "max_steps": 1, "warmup": 0}
    run = train_here(changed(job, train=still), tmp_path / "run")
    expected = by_peft(shapes["base"], adapter).merge_and_unload().state_dict()
    assert run.weights.keys() == expected.keys()
    for name, weight in run.weights.items():
        assert (weight - expected[name]).abs().max() < 1e-6, name
    assert (expected["model.layers.0.mlp.down_proj.weight"]).abs().max() > 0


def test_the_next_adapter_is_trained_on_the_merged_model(
    document: dict[str, Any], adapter: Path, shapes: dict[str, Path], tmp_path: Path
) -> None:
    job = starting(document, adapter, base_model=str(shapes["base"]))
    job = changed({**job, "adapter": {"kind": "lora", "r": 2}}, train={"max_steps": 1})
    run = train_here(job, tmp_path / "run")
    config = read_adapter_config(run.path / "model")
    assert config is not None and config["base_model_name_or_path"] == str(run.path / "start")
    start = AutoModelForCausalLM.from_pretrained(run.path / "start")
    assert (logits(start) - logits(by_peft(shapes["base"], adapter))).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("wide", r"layers.0.self_attn.q_proj is 64 × 64, and the adapter's layer 32 × 32;.*layers"),
        ("shallow", r"layers.1.self_attn.q_proj is not in the base"),
        ("deep", r"it has 3 layers, and the adapter 2"),
    ],
)
def test_a_base_of_another_shape_is_refused_before_torch(
    document: dict[str, Any],
    adapter: Path,
    shapes: dict[str, Path],
    tmp_path: Path,
    kind: str,
    problem: str,
) -> None:
    """PEFT reports only another width: it loads the other two without an error."""
    # Without its record of the base's weights, as other tools save an adapter.
    adapter = shutil.copytree(adapter, tmp_path / "a", ignore=shutil.ignore_patterns("base.json"))
    if kind != "wide":
        assert by_peft(shapes[kind], adapter) is not None
    job = parse_job(starting(document, adapter, base_model=str(shapes[kind])), "test")
    with pytest.raises(ModelError, match=f"model.base_model: .*{problem}"):
        require_inputs(job, Path())
    with pytest.raises(ModelError, match=problem):
        merged(str(adapter), dtype=torch.float32, base=str(shapes[kind]))


def test_every_layer_that_differs_is_counted(adapter: Path, shapes: dict[str, Path]) -> None:
    assert base_problem(adapter, shapes["base"]) is None
    # Two layers with three adapted matrices each; six differences are written out.
    assert str(base_problem(adapter, shapes["wide"])).count("and the adapter's layer") == 6


def test_an_adapter_of_some_layers_fits_a_deeper_base(
    shapes: dict[str, Path], tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(shapes["deep"])
    chosen = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], layers_to_transform=[0, 1])
    get_peft_model(model, chosen).save_pretrained(tmp_path)
    assert base_problem(tmp_path, shapes["deep"]) is None


def test_export_merges_into_the_base_that_is_named(
    adapter: Path, shapes: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="--base-model of temper export"):
        export_model(adapter, to=tmp_path / "out")
    export_model(adapter, to=tmp_path / "out", base_model=str(shapes["base"]))
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    expected = logits(by_peft(shapes["base"], adapter))
    assert (logits(exported) - expected).abs().max() < 1e-4
    with pytest.raises(ModelError, match=r"it has 3 layers, and the adapter 2"):
        export_model(adapter, to=tmp_path / "deep", base_model=str(shapes["deep"]))
    with pytest.raises(JobError, match="BASE_MODEL: is the base of an adapter"):
        export_model(shapes["base"], to=tmp_path / "no", base_model=str(shapes["base"]))


def test_other_weights_of_the_same_shape_are_refused(
    document: dict[str, Any], adapter: Path, shapes: dict[str, Path], tmp_path: Path
) -> None:
    other = shutil.copytree(shapes["base"], tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] += 1e-3
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    for write in (
        lambda: train_here(starting(document, adapter, base_model=str(other)), tmp_path / "run"),
        lambda: export_model(adapter, to=tmp_path / "out", base_model=str(other)),
    ):
        with pytest.raises(ModelError, match="whose weights are not those in"):
            write()


def test_a_plan_reads_the_shape_of_the_base_that_is_named(
    document: dict[str, Any], adapter: Path, shapes: dict[str, Path]
) -> None:
    job = parse_job(starting(document, adapter, base_model=str(shapes["deep"])), "test")
    assert isinstance(job, Job)
    assert read_shape(job).layers == 3


def test_the_base_travels_with_a_job(
    document: dict[str, Any], adapter: Path, shapes: dict[str, Path], tmp_path: Path
) -> None:
    """A container has only what was sent to it, and the Hub only if the job says so."""
    copy = shutil.copytree(adapter, tmp_path / "adapter")
    record(copy, str(shapes["base"]))
    job = with_recorded_bases(parse_job(starting(document, copy), "test"))
    inputs = {item.key: item for item in collect_inputs(job)}
    assert inputs["model.base_model"].path == shapes["base"].resolve()
    text = rewrite_paths(job, list(inputs.values()), lambda item: f"/there/{item.channel}")
    assert "base_model: /there/model-base-model" in text
    record(copy, "owner/base")
    assert hub_names(with_recorded_bases(parse_job(starting(document, copy), "test"))) == [
        "owner/base"
    ]


def test_base_model_needs_an_adapter(
    document: dict[str, Any], shapes: dict[str, Path], tmp_path: Path
) -> None:
    job = parse_job(starting(document, shapes["base"], base_model=str(shapes["deep"])), "test")
    with pytest.raises(ModelError, match=r"is only used if model.source is an adapter"):
        require_inputs(job, tmp_path)
    scratch = {"hidden_size": 32, "intermediate_size": 88, "num_hidden_layers": 1}
    scratch |= {"num_attention_heads": 2, "vocab_size": 300}
    model = {"source": "scratch", "scratch": scratch, "base_model": "owner/base"}
    with pytest.raises(JobError, match=r"model.base_model: names the base of an adapter"):
        parse_job(changed(document, model=model), "test")


def test_answers_refuse_a_base_of_another_shape(
    adapter: Path, shapes: dict[str, Path], tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "requests.jsonl", [{"prompt": "a", "adapter": "one"}])
    with pytest.raises(ModelError, match="it has 3 layers, and the adapter 2"):
        answer_requests(str(shapes["deep"]), tmp_path / "requests.jsonl", [f"one={adapter}"])
