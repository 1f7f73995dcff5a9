"""A mixture of experts is trained, saved, resumed and loaded again, whatever its family."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from planning.expert_adapters import _LINEAR_PER_EXPERT
from tests.factories import make_tiny_model
from tests.moe_models import BALANCED, EXPERTS, FAMILIES, make_tiny_moe
from tests.run_commands import ROOT, Run, assert_identical, changed, read_weights, train_here
from training.errors import CheckpointError, GuardError, ModelError
from training.export.gguf_file import write_gguf
from training.guards.saved_model import Norms, check_readback
from training.models.weight_layout import group_name
from training.trainer.resumable import ResumableTrainerMixin

FAST = ("mixtral", "granitemoe")
"""Families of the fast tests: one whose experts are split in the files, one that is renamed too."""
CASES = [
    pytest.param(family, marks=[] if family in FAST else [pytest.mark.slow]) for family in FAMILIES
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, pairs: Path) -> Any:
    """Return a job of four steps and its run, for a family; each is trained once."""
    made: dict[str, tuple[dict[str, Any], Run]] = {}

    def run_of(family: str) -> tuple[dict[str, Any], Run]:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            job = {
                "name": "moe",
                "model": {
                    "source": str(make_tiny_moe(folder / "model", family)),
                    "attention": "eager",
                },
                "data": {"train": str(pairs), "max_length": 96, "workers": 1},
                "method": {"kind": "sft"},
                "train": {
                    "max_steps": 4,
                    "global_batch_size": 8,
                    "micro_batch_size": 4,
                    "learning_rate": 1e-2,
                },
                "checkpoint": {"every": "2 steps", "keep": 9},
                "tracking": {"mlflow": False},
            }
            made[family] = job, train_here(job, folder / "run")
        return made[family]

    return run_of


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32")


@pytest.mark.parametrize("family", CASES)
def test_every_expert_is_trained_and_saved(runs: Any, family: str) -> None:
    """The saved model has the names of its base, and each expert differs from where it began."""
    job, run = runs(family)
    start = Path(job["model"]["source"])
    assert set(read_weights(run.path / "model")) == set(read_weights(start))
    before, after = (dict(loaded(f).named_parameters()) for f in (start, run.path / "model"))
    fused = [name for name in before if "experts" in name and before[name].shape[0] == EXPERTS]
    assert len(fused) >= 4
    for name in fused:
        moved = (after[name] - before[name]).flatten(1).abs().amax(1)
        assert (moved > 1e-5).all(), (name, moved)


@pytest.mark.parametrize("family", CASES)
def test_a_resumed_run_is_the_uninterrupted_one(runs: Any, tmp_path: Path, family: str) -> None:
    job, run = runs(family)
    cut = Path(shutil.copytree(run.path, tmp_path / "cut"))
    shutil.rmtree(cut / "model")
    shutil.rmtree(cut / "checkpoints/checkpoint-4")
    assert_identical(train_here(job, cut), run)


def test_a_checkpoint_without_the_experts_is_not_resumed() -> None:
    """Transformers only warns about missing weights and continues with initial values."""
    config = MixtralConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        vocab_size=8,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
        tie_word_embeddings=True,
    )
    trainer = ResumableTrainerMixin.__new__(ResumableTrainerMixin)
    trainer.model = MixtralForCausalLM(config)
    weights = trainer.model.state_dict()
    # One name of the tied embeddings is saved.
    del weights["lm_head.weight"]
    trainer._issue_warnings_after_load(trainer.model.load_state_dict(weights, strict=False))
    kept = {name: tensor for name, tensor in weights.items() if "experts" not in name}
    with pytest.raises(CheckpointError, match=r"lacks 2 of \d+ tensors of the model \(.*experts"):
        trainer._issue_warnings_after_load(trainer.model.load_state_dict(kept, strict=False))


@pytest.mark.parametrize("family", CASES)
def test_what_the_files_split_is_compared_as_a_whole(runs: Any, family: str) -> None:
    """A single expert that is lost or changed on the way to the disk is noticed."""
    _, run = runs(family)
    model = loaded(run.path / "model")
    norms: Norms = {
        name: (tuple(tensor.shape), float(tensor.detach().double().norm()))
        for name, tensor in model.named_parameters()
    }
    group = group_name(model)
    check_readback(run.path / "model", norms, relative=1e-6, group=group)
    name = next(name for name in norms if "experts" in name)
    assert (set(read_weights(run.path / "model")) != set(norms)) == (family != "gpt_oss")
    with torch.no_grad():
        dict(model.named_parameters())[name][-1].mul_(1.01)
    norms[name] = (norms[name][0], float(dict(model.named_parameters())[name].double().norm()))
    with pytest.raises(GuardError, match=f"{re.escape(group(name))} has norm"):
        check_readback(run.path / "model", norms, relative=1e-6, group=group)
    norms[name] = ((EXPERTS + 1, *norms[name][0][1:]), norms[name][1])
    with pytest.raises(GuardError, match=f"{re.escape(group(name))} has shape"):
        check_readback(run.path / "model", norms, relative=1e-6, group=group)


def test_a_renamed_model_is_saved_and_resumed(document: dict[str, Any], tmp_path: Path) -> None:
    """GPT-NeoX has other names in memory than in its files, and no experts."""
    base = make_tiny_model(tmp_path / "base", "gpt_neox")
    job = changed(document, model={"source": str(base)}, train={"max_steps": 4})
    job = changed(job, checkpoint={"every": "2 steps", "keep": 9})
    run = train_here(job, tmp_path / "run")
    cut = Path(shutil.copytree(run.path, tmp_path / "cut"))
    shutil.rmtree(cut / "model")
    shutil.rmtree(cut / "checkpoints/checkpoint-4")
    assert_identical(train_here(job, cut), run)


def test_the_page_names_the_families_and_what_they_have() -> None:
    page = (ROOT / "docs/mixtures-of-experts.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| `")]
    told = {name.strip().strip("`"): (loss.strip(), linear.strip()) for name, loss, linear in rows}
    assert told.keys() == FAMILIES.keys()
    for family, (loss, linear) in told.items():
        assert (loss == "yes") == (family in BALANCED)
        assert linear.startswith("includes") == (family in _LINEAR_PER_EXPERT)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_gguf_is_refused_before_anything_is_written(tmp_path: Path, family: str) -> None:
    base = make_tiny_moe(tmp_path / "base", family)
    with pytest.raises(ModelError, match=f"{family} is not among the verified architectures"):
        write_gguf(base, tmp_path / "model.gguf", "moe")
    assert not (tmp_path / "model.gguf").exists()
