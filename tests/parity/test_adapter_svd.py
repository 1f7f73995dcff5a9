"""A LoRA adapter of lower rank is the best one of that rank, and PEFT loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from temper.cli import main
from tests.run_commands import train_here
from training.errors import JobError, ModelError
from training.export.adapter_svd import Reduction, reduce_layer
from training.export.command import export_model
from training.export.formats import adapter_svd
from training.export.merged_folder import merged_folder
from training.models.base_digest import write_base_digest


@pytest.mark.parametrize("reduction", [Reduction(rank=3), Reduction(energy=0.8)], ids=str)
def test_the_error_is_that_of_eckart_and_young(reduction: Reduction) -> None:
    """No matrix of the rank is nearer than the singular values that are left out."""
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(8, 40, generator=generator), torch.randn(24, 8, generator=generator)
    update = (up @ down).double()
    singular = torch.linalg.svdvals(update)
    part = reduce_layer(down, up, reduction)
    k = len(part.down)
    error = (update - part.up.double() @ part.down.double()).norm()
    assert float(error) == pytest.approx(float(singular[k:].norm()), rel=1e-5)
    assert part.relative_error == pytest.approx(float(error / update.norm()), rel=1e-5)
    energies = singular.square().cumsum(0) / singular.square().sum()
    if reduction.rank:
        assert k == reduction.rank
    else:
        assert energies[k - 1] >= 0.8 > energies[k - 2]


def test_a_layer_without_rank_to_lose_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, 16, generator=generator), torch.randn(16, 4, generator=generator)
    part = reduce_layer(down, up, Reduction(energy=1.0))
    assert len(part.down) == 4
    torch.testing.assert_close(part.up @ part.down, up @ down, atol=1e-5, rtol=1e-5)
    zero = reduce_layer(down, torch.zeros_like(up), Reduction(energy=0.9))
    assert (len(zero.down), zero.relative_error, float(zero.up.abs().sum())) == (1, 0.0, 0.0)


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a short run with a LoRA adapter of rank 8."""
    document = {
        "name": "tiny",
        "model": {"source": str(tiny_model)},
        "data": {
            "train": str(pairs), "max_length": 96, "workers": 1, "validation": {"split": "20%"},
        },
        "method": {"kind": "sft"},
        "adapter": {"kind": "lora", "r": 8, "alpha": 16, "use_rslora": True},
        "train": {
            "max_steps": 8, "global_batch_size": 8, "micro_batch_size": 8, "learning_rate": 2e-2,
        },
        "tracking": {"mlflow": False},
    }  # fmt: skip
    return train_here(document, tmp_path_factory.mktemp("svd") / "run").path / "model"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.arange(3, 27)[None]).logits
    return found


def beside(folder: Path, base: Path) -> PeftModel:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))


def test_peft_loads_it_with_each_layer_s_rank(
    adapter: Path, tiny_model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out/adapter-svd"
    said = adapter_svd(adapter, target, energy=0.9)
    assert "held-out loss" in said and "relative error" in said
    figures = json.loads((tmp_path / "out/export.json").read_text())["adapter-svd"]
    ranks = {layer["rank"] for layer in figures["layers"].values()}
    assert len(ranks) > 1 and max(ranks) < 8, "an energy gives layers their own ranks"
    # Computed again by plain PEFT, from the matrices that it adds to the weights.
    mine, theirs = beside(target, tiny_model), beside(adapter, tiny_model)
    for path, layer in figures["layers"].items():
        small, whole = (m.get_submodule(path).get_delta_weight("default") for m in (mine, theirs))
        assert float(torch.linalg.matrix_rank(small)) == layer["rank"]
        error = float((small - whole).norm() / whole.norm())
        assert error == pytest.approx(layer["relative_error"], rel=1e-3)
        assert error**2 <= 0.1 + 1e-6
    assert (logits(mine) - logits(theirs)).abs().max() > 1e-3
    assert figures["bytes"]["after"] < figures["bytes"]["before"]
    assert figures["held_out_loss"].keys() == {"before", "after"}
    measured = json.loads((adapter.parent / "evaluation.json").read_text())
    gained = measured["before"]["validation"]["loss"] - measured["after"]["validation"]["loss"]
    lost = figures["held_out_loss"]["after"] - figures["held_out_loss"]["before"]
    assert abs(lost) < 0.5 * gained
    # It is an adapter like any other.
    assert "logits differ" in merged_folder(target, tmp_path / "merged")


def test_a_full_rank_loses_nothing(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    adapter_svd(adapter, tmp_path / "out", rank=8)
    mine, theirs = (logits(beside(folder, tiny_model)) for folder in (tmp_path / "out", adapter))
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_reduced_says_why(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="adapter-svd needs a rank or an energy"):
        export_model(adapter, "adapter-svd", tmp_path / "out")
    with pytest.raises(JobError, match=r"RANK: is no option of FORMAT=adapter"):
        export_model(adapter, "adapter", tmp_path / "out", rank=4, energy=None)
    with pytest.raises(JobError, match=r"ENERGY: must be above 0 and at most 1"):
        adapter_svd(adapter, tmp_path / "out", energy=1.5)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, use_dora=True, target_modules=["q_proj"])
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config).save_pretrained(
        tmp_path / "dora"
    )
    write_base_digest(tmp_path / "dora", str(tiny_model))
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "dora")
    with pytest.raises(ModelError, match="it has DoRA, whose magnitudes depend on the update"):
        adapter_svd(tmp_path / "dora", tmp_path / "out", rank=2)
    assert not (tmp_path / "out").exists()


def test_the_command_passes_the_rank_on(adapter: Path, tmp_path: Path) -> None:
    arguments = ["export", str(adapter.parent), "--format", "adapter-svd", "--rank", "2"]
    assert main([*arguments, "--to", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["r"] == 2
