"""A run that could not be saved is refused before its first step, or its settings are repaired."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerBase

from tests.run_commands import changed, train_here
from training.errors import ModelError, RunError


def with_generation_config(model: Path, folder: Path, **settings: Any) -> Path:
    shutil.copytree(model, folder)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


UNUSED: dict[str, dict[str, Any]] = {
    "greedy with a temperature": {"do_sample": False, "temperature": 0.6, "top_p": 0.9},
    "a temperature alone": {"temperature": 0.01},
    "one beam with a penalty": {"num_beams": 1, "length_penalty": 0.5, "early_stopping": True},
    "scores of a plain answer": {"output_scores": True},
    "a negative padding token": {"pad_token_id": -1},
}


@pytest.mark.parametrize("settings", UNUSED.values(), ids=UNUSED)
@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "r": 2}], ids=["full", "lora"])
def test_generation_settings_without_effect(
    document: dict[str, Any],
    tiny_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    adapter: dict[str, Any] | None,
) -> None:
    base = with_generation_config(tiny_model, tmp_path / "base", **settings)
    job = changed(document, model={"source": str(base)}, train={"max_steps": 1})
    train_here({**job, "adapter": adapter} if adapter else job, tmp_path / "run")
    name, value = list(settings.items())[-1]
    assert f"{name}: {value}" in caplog.text
    if adapter:
        return
    saved = GenerationConfig.from_pretrained(tmp_path / "run/model")
    saved.validate(strict=True)
    ids = torch.arange(3, 20)[None]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model")
    as_saved = model.generate(ids, max_new_tokens=8)
    model.generation_config = GenerationConfig(pad_token_id=0, eos_token_id=saved.eos_token_id)
    assert torch.equal(as_saved, model.generate(ids, max_new_tokens=8, do_sample=False))


def assert_nothing_was_trained(run: Path) -> None:
    assert not (run / "samples.jsonl").exists() or not (run / "samples.jsonl").read_text()
    assert not list((run / "checkpoints").glob("checkpoint-*"))
    assert not list(run.glob(".rehearsing-*"))


def test_generation_settings_that_cannot_be_repaired(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    wrong = {"forced_eos_token_id": 5, "suppress_tokens": [5]}
    base = with_generation_config(tiny_model, tmp_path / "base", **wrong)
    with pytest.raises(ModelError, match=r"generation_config|forced_eos_token_id"):
        train_here(changed(document, model={"source": str(base)}), tmp_path / "run")
    assert_nothing_was_trained(tmp_path / "run")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(13, "Permission denied"), RunError, "Permission denied.*writable"),
        (TypeError("Object of type set is not JSON"), ModelError, "type set.*before the first"),
    ],
    ids=["not writable", "not serializable"],
)
def test_a_tokenizer_that_cannot_be_saved(
    document: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[Exception],
    words: str,
) -> None:
    def fail(self: Any, *ignored: Any, **also_ignored: Any) -> None:
        raise error

    monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", fail)
    with pytest.raises(kind, match=words):
        train_here(document, tmp_path / "run")
    assert_nothing_was_trained(tmp_path / "run")


def test_a_disk_that_is_too_small(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(
            "training.export.rehearsal.shutil.disk_usage", lambda _: usage(2**20, 2**20, 100_000)
        )
        with pytest.raises(RunError, match=r"take 0\.\d MiB, and 0\.1 MiB are free"):
            train_here(document, tmp_path / "run")
    assert_nothing_was_trained(tmp_path / "run")
