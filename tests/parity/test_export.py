"""Every export format gives the outputs of the trained model; impossible exports are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from temper.cli import main
from tests.factories import make_tiny_model
from tests.run_commands import ROOT, changed, train_here
from training.errors import GuardError, ModelError
from training.export import merged_folder as merging
from training.export.formats import adapter_folder, archive, archive_apart
from training.export.merged_folder import merged_folder
from training.export.verify import compare
from training.models.base_digest import BASE
from training.models.layer_streaming import is_streamable

ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "r": 4, "alpha": 16},
    "dora": {"kind": "lora", "r": 4, "alpha": 16, "use_dora": True},
    "qlora": {"kind": "qlora", "r": 4, "alpha": 16},
    "ia3": {"kind": "ia3"},
    "bottleneck": {"kind": "bottleneck", "size": 8},
    "prompt_tuning": {"kind": "prompt_tuning", "num_virtual_tokens": 5},
}
MERGING = ["lora", "dora", "qlora", "ia3"]
IDS = torch.arange(3, 27)[None]


@pytest.fixture(scope="module")
def trained(
    tiny_model: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Model folders of short runs, by what was trained."""
    home = tmp_path_factory.mktemp("trained")
    document = {
        "name": "tiny",
        "model": {"source": str(tiny_model)},
        "data": {"train": str(pairs), "max_length": 96, "workers": 1, "validation": "none"},
        "method": {"kind": "sft"},
        "train": {
            "max_steps": 4, "global_batch_size": 8, "micro_batch_size": 8, "learning_rate": 1e-2,
        },
        "tracking": {"mlflow": False},
    }  # fmt: skip
    runs = {"full": train_here(document, home / "full")}
    for name, adapter in ADAPTERS.items():
        job = changed(document, precision="bf16" if name == "qlora" else "fp32", adapter=adapter)
        runs[name] = train_here(job, home / name)
    return {name: run.path / "model" for name, run in runs.items()}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found[:, -IDS.shape[1] :]


def logits_in(folder: Path) -> torch.Tensor:
    return logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


def logits_beside(adapter: Path, base: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(model, str(adapter)))


@pytest.mark.parametrize("kind", MERGING)
def test_merged_folder_is_base_and_adapter(
    trained: dict[str, Path], tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    """A 4-bit base's adapter goes into the weights as they were before they were rounded."""
    said = merged_folder(trained[kind], tmp_path / "out")
    assert "logits differ by at most" in said
    apart, merged = logits_beside(trained[kind], tiny_model), logits_in(tmp_path / "out")
    assert (apart - logits_in(tiny_model)).abs().max() > 1e-2
    assert (apart - merged).abs().max() < 1e-4
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"tokenizer.json", "config.json", "model.safetensors"} <= names
    assert not names & {"adapter_config.json", BASE}


def test_whole_model_is_copied_byte_by_byte(trained: dict[str, Path], tmp_path: Path) -> None:
    said = merged_folder(trained["full"], tmp_path / "out")
    assert said == "21 tensors, every byte as it was"
    for path in trained["full"].iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(ModelError, match="whole model and no adapter; use FORMAT=safetensors"):
        adapter_folder(trained["full"], tmp_path / "adapter")


@pytest.mark.parametrize("kind", list(ADAPTERS))
def test_adapter_folder_loads_beside_its_base(
    trained: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    said = adapter_folder(trained[kind], tmp_path / "out")
    assert "on its base it changes logits by up to" in said
    assert json.loads((tmp_path / "out" / BASE).read_text())["digest"]


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_archive_holds_a_model_at_its_root(
    trained: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    archive(trained[kind], tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz") as packed:
        packed.extractall(tmp_path / "in", filter="data")
    merged_folder(trained[kind], tmp_path / "out")
    assert torch.equal(logits_in(tmp_path / "in"), logits_in(tmp_path / "out"))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["in", "model.tar.gz", "out"]


@pytest.mark.parametrize("kind", ["lora", "bottleneck", "prompt_tuning"])
def test_archive_with_the_adapter_apart(
    trained: dict[str, Path], tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    archive_apart(trained[kind], tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz") as packed:
        packed.extractall(tmp_path / "in", filter="data")
    assert torch.equal(logits_in(tmp_path / "in"), logits_in(tiny_model))
    inside = logits_beside(tmp_path / "in/adapter", tmp_path / "in")
    assert torch.equal(inside, logits_beside(trained[kind], tiny_model))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("bottleneck", "there is an activation between its two matrices"),
        ("prompt_tuning", "its virtual tokens precede the input"),
    ],
)
def test_what_does_not_merge_says_why(
    trained: dict[str, Path], tmp_path: Path, kind: str, why: str
) -> None:
    with pytest.raises(ModelError, match=rf"{why}. Export it with FORMAT=adapter"):
        merged_folder(trained[kind], tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("targets", [["q_proj"], ["lm_head"], ["embed_tokens"]], ids=str)
def test_tied_embeddings_come_apart_only_where_they_must(
    tmp_path: Path, targets: list[str]
) -> None:
    base = make_tiny_model(tmp_path / "base", tie_word_embeddings=True)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets)
    adapter = saved(base, config, tmp_path / "adapter")
    merged_folder(adapter, tmp_path / "out")
    said = json.loads((tmp_path / "out/config.json").read_text())
    assert said["tie_word_embeddings"] == (targets == ["q_proj"])
    assert (logits_in(tmp_path / "out") - logits_beside(adapter, base)).abs().max() < 1e-4


def test_modules_trained_whole_replace_those_of_the_base(tiny_model: Path, tmp_path: Path) -> None:
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        target_modules=["v_proj"],
        modules_to_save=["lm_head", "embed_tokens"],
    )
    adapter = saved(tiny_model, config, tmp_path / "adapter")
    merged_folder(adapter, tmp_path / "out")
    apart = logits_beside(adapter, tiny_model)
    assert (apart - logits_in(tiny_model)).abs().max() > 1e-2
    assert (logits_in(tmp_path / "out") - apart).abs().max() < 1e-4


def test_factors_of_outputs_are_factors_of_biases(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base", attention_bias=True)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.5)
    model.save_pretrained(base)
    config = IA3Config(
        task_type="CAUSAL_LM",
        target_modules=["k_proj", "v_proj", "down_proj"],
        feedforward_modules=["down_proj"],
    )
    adapter = saved(base, config, tmp_path / "adapter")
    merged_folder(adapter, tmp_path / "out")
    apart = logits_beside(adapter, base)
    assert (apart - logits_in(base)).abs().max() > 1e-2
    assert (logits_in(tmp_path / "out") - apart).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [("mixtral", {"num_local_experts": 2, "num_key_value_heads": 2}), ("gpt_neox", {})],
)
def test_bases_that_store_their_weights_otherwise_are_merged_in_memory(
    tiny_model: Path, tmp_path: Path, architecture: str, shape: dict[str, Any]
) -> None:
    """Transformers joins experts, and renames heads, while it loads them."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    words = AutoConfig.from_pretrained(tiny_model).vocab_size
    size = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2}
    config = AutoConfig.for_model(
        architecture, vocab_size=words, num_attention_heads=4, **size, **shape
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(base)
    assert not is_streamable(base) and is_streamable(tiny_model)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    adapter = saved(base, lora, tmp_path / "adapter")
    merged_folder(adapter, tmp_path / "out")
    apart = logits_beside(adapter, base)
    assert (apart - logits_in(base)).abs().max() > 1e-3
    assert (logits_in(tmp_path / "out") - apart).abs().max() < 1e-4
    adapter_folder(adapter, tmp_path / "apart")


def saved(base: Path, config: PeftConfig, folder: Path) -> Path:
    """Save an adapter whose every trainable tensor was moved, with the base's tokenizer."""
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    for path in base.glob("tokenizer*"):
        shutil.copyfile(path, folder / path.name)
    return folder


def test_another_base_is_refused(
    trained: dict[str, Path], document: dict[str, Any], tmp_path: Path
) -> None:
    """One of the same shape too: nothing else would ever notice."""
    copy = shutil.copytree(trained["lora"], tmp_path / "adapter")
    other = shutil.copytree(json.loads((copy / BASE).read_text())["source"], tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] += 1e-3
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": str(other)})
    )
    with pytest.raises(ModelError, match="whose weights are not those in"):
        merged_folder(copy, tmp_path / "out")
    with pytest.raises(ModelError, match="whose weights are not those in"):
        train_here(changed(document, model={"source": str(copy)}), tmp_path / "run")


def test_another_adapter_on_top_has_the_merged_one_for_its_base(
    trained: dict[str, Path], document: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    job = changed(
        document,
        model={"source": str(trained["lora"])},
        adapter={"kind": "qlora", "r": 2},
        train={"max_steps": 4, "learning_rate": 1e-2},
        precision="bf16",
    )
    run = train_here(job, tmp_path / "run")
    base = Path(json.loads((run.path / "model" / BASE).read_text())["source"])
    assert base == run.path / "start"
    first = logits_beside(trained["lora"], tiny_model)
    assert (logits_in(base) - first).abs().max() < 0.05 * first.abs().max()
    merged_folder(run.path / "model", tmp_path / "out")
    assert (logits_in(tmp_path / "out") - logits_beside(run.path / "model", base)).abs().max() < 0.3


def test_an_export_that_differs_is_not_kept(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classic: what was merged is the base, and nobody says so."""
    real = merging.streaming_merge

    def forgets(adapter: Path, base: Path, target: Path) -> None:
        real(adapter, base, target)
        shutil.copyfile(base / "model.safetensors", target / "model.safetensors")

    monkeypatch.setattr(merging, "streaming_merge", forgets)
    with pytest.raises(GuardError, match="the merged model is not the adapted one"):
        merged_folder(trained["lora"], tmp_path / "out")
    assert not list(tmp_path.iterdir())
    with pytest.raises(GuardError, match="the adapter changes nothing"):
        compare(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3), torch.float32)


def test_command_line(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained["lora"].parent
    assert main(["export", str(run), "--to", str(tmp_path / "out")]) == 0
    assert f"done: {tmp_path / 'out'}" in capsys.readouterr().out
    assert main(["export", str(run), "--format", "onnx"]) == 2
    assert (
        "Choose from safetensors, adapter, adapter-svd, archive, archive-apart"
        in capsys.readouterr().err
    )
    assert main(["export", str(tmp_path / "nowhere")]) == 2
    assert "has no trained model" in capsys.readouterr().err


_MEASURE = """
import sys, threading, time
from pathlib import Path
from training.export.merged_folder import merged_folder

def anonymous_mib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("RssAnon"))

merged_folder(Path(sys.argv[1]), Path(sys.argv[3]))  # whatever is loaded once is loaded now
peak, done, before = 0.0, False, anonymous_mib()

def watch():
    global peak
    while not done:
        peak = max(peak, anonymous_mib())
        time.sleep(0.002)

thread = threading.Thread(target=watch)
thread.start()
merged_folder(Path(sys.argv[2]), Path(sys.argv[3]))
done = True
thread.join()
print(peak - before)
"""


@pytest.mark.slow
def test_memory_stays_well_below_the_model(tmp_path: Path) -> None:
    """560 MiB of weights are merged and proved in less than a third of that."""
    adapters = []
    for name, layers in (("small", 1), ("large", 12)):
        base = make_tiny_model(
            tmp_path / name,
            hidden_size=1024,
            intermediate_size=2816,
            num_hidden_layers=layers,
            num_attention_heads=8,
            num_key_value_heads=8,
            head_dim=128,
        )
        config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
        adapters.append(saved(base, config, tmp_path / f"{name}-adapter"))
    size = (tmp_path / "large/model.safetensors").stat().st_size / 2**20
    out = subprocess.run(
        [sys.executable, "-c", _MEASURE, *map(str, adapters), str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert size > 500
    print(f"peak {out.splitlines()[-1]} MiB of {size:.0f} MiB")
    assert float(out.splitlines()[-1]) < size / 3, (out, size)
