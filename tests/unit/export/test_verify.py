"""A model counts as saved once it was read back: whatever is lost on the way stops the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests.run_commands import changed, train_here
from training.config.load import parse_job
from training.errors import GuardError, RunError
from training.run_folder import RunFolder
from training.worker import main

Tensors = dict[str, torch.Tensor]


def zeros(tensors: Tensors) -> Tensors:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def one_zero(tensors: Tensors) -> Tensors:
    first = sorted(tensors)[0]
    return {**tensors, first: torch.zeros_like(tensors[first])}


def one_missing(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name != sorted(tensors)[0]}


def one_empty(tensors: Tensors) -> Tensors:
    first = sorted(tensors)[0]
    return {**tensors, first: torch.empty(0)}


def nothing(tensors: Tensors) -> Tensors:
    return {}


def a_little_off(tensors: Tensors) -> Tensors:
    return {name: tensor * 1.0001 for name, tensor in tensors.items()}


def swapped(tensors: Tensors) -> Tensors:
    """Two tensors of one shape, each under the other's name."""
    by_shape: dict[tuple[int, ...], str] = {}
    for name in sorted(tensors):
        other = by_shape.setdefault(tuple(tensors[name].shape), name)
        if other != name:
            return {**tensors, name: tensors[other], other: tensors[name]}
    raise AssertionError("no two tensors of one shape")


TAMPERED: list[tuple[Callable[[Tensors], Tensors], str]] = [
    (zeros, "has norm 0, not"),
    (one_zero, "has norm 0, not"),
    (one_missing, "is missing"),
    (one_empty, "has shape [0], not"),
    (nothing, "holds no tensor"),
    (a_little_off, "has norm"),
    (swapped, "has norm"),
]


def tamper(
    monkeypatch: pytest.MonkeyPatch, kind: type[Any], how: Callable[[Tensors], Tensors]
) -> None:
    """Change what the real `save_pretrained` wrote, when it has written the final model."""
    save = kind.save_pretrained

    def save_then_tamper(self: Any, folder: Any, *arguments: Any, **options: Any) -> Any:
        done = save(self, folder, *arguments, **options)
        if Path(folder).name == ".writing-model":
            for path in Path(folder).glob("*.safetensors"):
                save_file(how(load_file(path)), path, metadata={"format": "pt"})
        return done

    monkeypatch.setattr(kind, "save_pretrained", save_then_tamper)


@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "r": 4}], ids=["model", "adapter"])
@pytest.mark.parametrize(("how", "words"), TAMPERED, ids=[how.__name__ for how, _ in TAMPERED])
def test_what_is_not_what_was_trained(
    document: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    adapter: dict[str, Any] | None,
    how: Callable[[Tensors], Tensors],
    words: str,
) -> None:
    job = changed(document, train={"max_steps": 4})
    if adapter:
        job["adapter"] = adapter
    tamper(monkeypatch, PeftModel if adapter else PreTrainedModel, how)
    with pytest.raises(GuardError) as caught:
        train_here(job, tmp_path / "run")
    assert words in str(caught.value)
    assert not (tmp_path / "run/model").exists()
    assert not (tmp_path / "run/.writing-model").exists()


def test_a_save_that_writes_nothing(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = changed(document, train={"max_steps": 2})

    def do_nothing(self: Any, folder: Any, *ignored: Any, **also_ignored: Any) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(PeftModel, "save_pretrained", do_nothing)
    with pytest.raises(GuardError, match="was not saved"):
        train_here({**job, "adapter": {"kind": "lora", "r": 4}}, tmp_path / "run")


def test_a_disk_that_fills_while_the_model_is_saved(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = changed(document, train={"max_steps": 2})
    save = PreTrainedModel.save_pretrained

    def fill(self: Any, folder: Any, *arguments: Any, **options: Any) -> Any:
        if Path(folder).name == ".writing-model":
            raise OSError(28, "No space left on device")
        return save(self, folder, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", fill)
        with pytest.raises(RunError, match="No space left on device") as caught:
            train_here(job, tmp_path / "run")
    assert "last checkpoint is intact" in str(caught.value)
    assert not (tmp_path / "run/model").exists()
    # The same command only has the model left to write.
    train_here(job, tmp_path / "run")
    assert (tmp_path / "run/model").exists()


def test_a_worker_leaves_word_of_what_stopped_it(
    document: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tamper(monkeypatch, PreTrainedModel, zeros)
    folder = RunFolder.create(
        tmp_path / "run", parse_job(changed(document, train={"max_steps": 2}), "test")
    )
    assert main(folder.path) == 4
    left = json.loads((folder.path / "failure.json").read_text())
    assert left["exit_code"] == 4
    assert "has norm 0" in left["message"]
    assert "has norm 0" in caplog.text
