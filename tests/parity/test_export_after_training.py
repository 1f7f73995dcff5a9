"""Merging at the end of a run: the folders that a target uploads hold what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from containers.entrypoint.opt_ml import MlFolder
from containers.entrypoint.train import published_models
from launch.aws.import_check import check_import
from registry.run_model import read_run_model
from tests.factories import make_tiny_model
from tests.run_commands import changed, train_by_command, train_here
from training.config.load import parse_job
from training.errors import JobError, ModelError
from training.export.after_training import export_trained
from training.run_folder import RunFolder

_LORA = {"kind": "lora", "r": 4, "alpha": 16}


@pytest.fixture
def document(tiny_model: Path, pairs: Path) -> dict[str, Any]:
    return {
        "name": "tiny",
        "model": {"source": str(tiny_model)},
        "data": {"train": str(pairs), "max_length": 96, "workers": 1, "validation": "none"},
        "method": {"kind": "sft"},
        "adapter": _LORA,
        "train": {
            "max_steps": 3, "global_batch_size": 8, "micro_batch_size": 4, "learning_rate": 1e-2,
        },
        "tracking": {"mlflow": False},
    }  # fmt: skip


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=torch.arange(3, 27)[None]).logits
    return logits


def _assert_merged(merged: Path, adapter: Path, base: Path) -> None:
    original = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = _logits(original)
    adapted = _logits(PeftModel.from_pretrained(original, str(adapter)))
    saved = _logits(AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32))
    assert (adapted - before).abs().max() > 1e-2
    assert (adapted - saved).abs().max() < 1e-4


@pytest.mark.parametrize("export", ["merged", "both"])
def test_the_upload_holds_the_trained_model(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path, export: str
) -> None:
    run = train_here(changed(document, export=export), tmp_path / "run")
    export_trained(RunFolder(run.path))
    upload = MlFolder(tmp_path / "ml")
    upload.output.mkdir(parents=True)
    for place, model in published_models(run.path).items():
        upload.copy_model(model, place)
    _assert_merged(upload.model, run.path / "model", tiny_model)
    assert (upload.model / "tokenizer.json").exists()
    assert not (upload.model / "adapter_config.json").exists()
    assert (upload.model / "adapter/adapter_model.safetensors").exists() == (export == "both")


def test_without_a_merge_the_adapter_is_uploaded(document: dict[str, Any], tmp_path: Path) -> None:
    for export in (None, "adapter"):
        job = changed(document, **({"export": export} if export else {}))
        run = train_here(job, tmp_path / f"run-{export}")
        assert published_models(run.path) == {"": run.path / "model"}


@pytest.mark.parametrize("adapter", [_LORA, None])
def test_the_form_that_bedrock_imports_is_uploaded_and_registered_where_it_lies(
    document: dict[str, Any], tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    values = {**document, "adapter": adapter, "export_formats": ["transformers-4"]}
    job = {key: value for key, value in values.items() if value is not None}
    run = train_here(job, tmp_path / "run")
    export_trained(RunFolder(run.path))
    places = published_models(run.path)
    assert set(places) == {"", "transformers-4"}
    refused = [f.message for f in check_import(places["transformers-4"], "us-east-1") if f.refused]
    assert refused == []
    weights = [AutoModelForCausalLM.from_pretrained(places["transformers-4"], dtype=torch.float32)]
    if adapter is None:
        weights.append(AutoModelForCausalLM.from_pretrained(run.path / "model"))
        assert torch.equal(*map(_logits, weights))
    else:
        _assert_merged(
            places["transformers-4"], run.path / "model", Path(document["model"]["source"])
        )
    RunFolder(run.path).set_state("finished")
    folders = read_run_model(run.path).folders
    assert folders["transformers-4"] == places["transformers-4"]


def test_a_model_without_that_form_is_refused_before_it_is_trained(
    document: dict[str, Any], tmp_path: Path
) -> None:
    gemma = make_tiny_model(tmp_path / "gemma", "gemma")
    job = changed(document, export_formats=["transformers-4"], model={"source": str(gemma)})
    with pytest.raises(ModelError, match="'gemma' were not compared with Transformers 4"):
        train_here(job, tmp_path / "run")
    assert not list((tmp_path / "run").glob("**/metrics.jsonl"))


@pytest.mark.slow
def test_the_last_stage_is_merged_by_the_command(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    """Two processes train with ZeRO 2; the upload is the merged model of the last stage."""
    first = {**document, "name": "first"}
    second = {
        **changed(document, name="second", export="both"),
        "sharding": {"zero": 2},
        "resources": {"processes": 2},
        "model": {"source": str(tiny_model)},
    }
    run = train_by_command({"name": "pipeline", "stages": [first, second]}, tmp_path)
    places = published_models(run.path)
    assert set(places) == {"", "adapter"}
    assert {path.parts[path.parts.index("stages") + 1] for path in places.values()} == {"02-second"}
    _assert_merged(places[""], places["adapter"], tiny_model)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {
                "export": None,
                "export_formats": ["transformers-4"],
                "adapter": {"kind": "prompt_tuning", "num_virtual_tokens": 4},
            },
            "export_formats.*cannot be merged",
        ),
        ({"adapter": None}, "without one, the trained model is published"),
        ({"adapter": {"kind": "prompt_tuning", "num_virtual_tokens": 4}}, "cannot be merged"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    document: dict[str, Any], sections: dict[str, Any], message: str
) -> None:
    job = {**document, "export": "merged", **sections}
    with pytest.raises(JobError, match=message):
        parse_job({key: value for key, value in job.items() if value is not None}, "job.yaml")


def test_the_export_is_not_part_of_a_runs_identity(
    document: dict[str, Any], tmp_path: Path
) -> None:
    """A stopped run may be resumed with another export; its plan counts the merged weights."""
    from planning import make_plan
    from training.run_folder import differences

    plain, merged = (parse_job(d, "job") for d in (document, changed(document, export="merged")))
    assert differences(plain, merged) == []
    formats = changed(document, export_formats=["transformers-4"])
    assert differences(plain, parse_job(formats, "job")) == []
    disk = make_plan(merged).disk_gib
    assert disk["merged model"] > 0
    assert make_plan(plain).disk_gib["total"] == pytest.approx(disk["total"] - disk["merged model"])
