"""Job files made from Hugging Face hyperparameters."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.config.hyperparameters.command import print_imported_job
from training.config.hyperparameters.settings import LoraSettings, TrainerSettings
from training.config.job import Job
from training.config.load import load_job
from training.config.types import Every
from training.errors import JobError


def _import(
    folder: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], **options: Any
) -> tuple[Job, str]:
    path = folder / "settings.json"
    path.write_text(json.dumps(settings))
    given = {"name": "", "model": "some/model", "data": "rows.csv", "validation": "", "devices": 1}
    print_imported_job(path, **{**given, **options})
    text = capsys.readouterr().out
    printed = folder / "job.yaml"
    printed.write_text(text)
    job = load_job(printed)
    assert isinstance(job, Job)
    return job, text


def test_settings_of_a_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        "use_lora": True,
        "lora_config": {"alpha": 16, "dropout": 0.05, "target_modules": ["q_proj", "v_proj"]},
        "merge_adapters": True,
        "num_train_epochs": 2,
        "learning_rate": 1e-4,
        "early_stopping_patience": 3,
        "early_stopping_threshold": 0.01,
        "sft_config": {
            "logging_strategy": "steps",
            "logging_steps": 50,
            "eval_strategy": "steps",
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 4,
            "fp16": "false",
            "bf16": "true",
            "warmup_steps": 20,
        },
        "model_init_config": {"attn_implementation": "sdpa", "use_cache": False},
    }
    job, text = _import(tmp_path, capsys, settings, validation="10%", devices=2)
    assert not text.startswith("#")
    assert job.adapter is not None
    adapter = job.adapter.model_dump()
    assert (adapter["r"], adapter["alpha"], adapter["dropout"]) == (8, 16, 0.05)
    assert adapter["target_modules"] == ("q_proj", "v_proj")
    assert (job.train.global_batch_size, job.train.micro_batch_size) == (32, 4)
    assert job.train.num_train_epochs == 2
    assert str(job.train.warmup) == "20 steps"
    assert job.train.lr_scheduler == "linear"
    assert job.train.early_stopping is not None
    assert job.train.early_stopping.threshold == 0.01
    # eval_steps defaults to logging_steps.
    assert job.train.log_every == job.evaluate.every == Every(50, "steps")
    assert (job.precision, job.model.attention) == ("bf16", "sdpa")
    assert job.export == "merged"


def test_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """LoRA without a configuration has rank and alpha 8; flash attention forces bf16."""
    job, text = _import(tmp_path, capsys, {"use_lora": "true"})
    assert job.adapter is not None
    adapter = job.adapter.model_dump()
    assert (adapter["r"], adapter["alpha"], adapter["dropout"]) == (8, 8, 0.0)
    assert (job.model.attention, job.precision) == ("flash_attention_2", "bf16")
    assert "target_modules is not given" in text
    assert "learning_rate is not given" in text


def test_what_is_not_carried_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        "lora_config": {"r": 4},
        "unknown": 1,
        "sft_config": {
            "neftune_noise_alpha": 5,
            "optim": "lion_32bit",
            "lr_scheduler_type": "cosine_with_restarts",
            "save_strategy": "no",
        },
        "model_init_config": {"torch_dtype": "float16"},
    }
    job, text = _import(tmp_path, capsys, settings)
    assert job.adapter is None
    notes = [line for line in text.splitlines() if line.startswith("#")]
    for name in (
        *("lora_config", "unknown", "neftune_noise_alpha", "lion_32bit"),
        *("cosine_with_restarts", "save_strategy", "torch_dtype"),
    ):
        assert any(name in note for note in notes), name


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"sft_config": {"learning_rate": "fast", "eval_strategy": "often"}}))
    with pytest.raises(JobError) as error:
        print_imported_job(path, name="", model="", data="", validation="", devices=1)
    assert {problem.path for problem in error.value.problems} == {
        "sft_config.learning_rate",
        "sft_config.eval_strategy",
    }
    path.write_text(json.dumps({"early_stopping_patience": 3, "fp16": True}))
    with pytest.raises(JobError) as error:
        print_imported_job(path, name="", model="", data="", validation="", devices=1)
    assert [problem.fix for problem in error.value.problems] == [
        "Add --model",
        "Add --validation 5%",
        "Add --data",
    ]


def test_text_that_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"bf16": "true,\n}')
    with pytest.raises(JobError, match=r"settings\.json"):
        print_imported_job(path, name="", model="m", data="d", validation="", devices=1)


def test_names_and_defaults_are_those_of_transformers_and_peft() -> None:
    import peft
    import transformers
    import trl

    arguments = {field.name: field.default for field in dataclasses.fields(trl.SFTConfig)}
    base = {f.name: f.default for f in dataclasses.fields(transformers.TrainingArguments)}
    callback = inspect.signature(transformers.EarlyStoppingCallback).parameters
    for name, field in TrainerSettings.model_fields.items():
        if name.startswith("early_stopping_"):
            assert name in callback
            continue
        if name == "warmup_ratio":
            continue  # an argument of Transformers before 5
        assert name in arguments, name
        if name == "optim":
            continue  # the fused AdamW by default, which computes the same
        if name in base and field.default not in (None, False) and base[name] is not None:
            default = getattr(base[name], "value", base[name])
            assert field.default == default, name
    lora = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    names = {"alpha": "lora_alpha", "dropout": "lora_dropout"}
    assert {names.get(name, name) for name in LoraSettings.model_fields} <= lora


def test_the_printed_job_is_plain_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text = _import(tmp_path, capsys, {"max_steps": 10, "seed": 7}, name="tuned")
    document = yaml.safe_load(text)
    assert document["name"] == "tuned"
    assert document["train"]["max_steps"] == 10
    assert "num_train_epochs" not in document["train"]


@pytest.mark.parametrize(
    ("layers", "expected"), [(3, (3,)), ([2, 3], (2, 3)), ([], None)], ids=["one", "some", "all"]
)
def test_layers_are_carried(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    layers: int | list[int],
    expected: tuple[int, ...] | None,
) -> None:
    config = {"target_modules": ["q_proj"], "layers_to_transform": layers}
    job, _ = _import(
        tmp_path, capsys, {"use_lora": True, "lora_config": {**config, "layers_pattern": "layers"}}
    )
    assert job.adapter is not None
    adapter = job.adapter.model_dump()
    assert adapter["layers_to_transform"] == expected
    assert adapter["layers_pattern"] == (("layers",) if expected else ())


@pytest.mark.parametrize(
    ("init", "expected", "note"),
    [
        ("gaussian", "gaussian", ""),
        ("orthogonal", "orthogonal", ""),
        ("olora", "olora", ""),
        ("pissa_niter_16", "pissa", "is carried as pissa"),
        ("eva", "zero", "the activations of training rows"),
        (False, "zero", "init_lora_weights false is not carried"),
    ],
)
def test_starts_are_carried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], init: str | bool, expected: str, note: str
) -> None:
    config = {"target_modules": ["q_proj"], "init_lora_weights": init}
    job, text = _import(
        tmp_path,
        capsys,
        {
            "use_lora": True,
            "lora_config": config,
            "model_init_config": {"attn_implementation": "sdpa"},
        },
    )
    assert job.adapter is not None
    assert job.adapter.model_dump()["init"] == expected
    assert note in text
    assert bool(note) == ("init_lora_weights" in text)
