"""Training of what was converted, as the emulated providers do it by default."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from emulator.hub import HubContent
from emulator.managed_training import CustomizationWork, train_here
from launch.managed.formats import converter
from tests.factories import make_tiny_model
from tests.unit.launch.managed.conftest import ManagedAccount, submit_job
from training.data.schema.rows import CompletionRow

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a tiny model with a chat template."""
    folder = tmp_path / "base"
    make_tiny_model(folder, "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def differs(base: Path, model: Path) -> bool:
    """Return whether a model has the tensors of its base with other values."""
    before = load_file(str(base / "model.safetensors"))
    after = load_file(str(model / "model.safetensors"))
    assert before.keys() == after.keys()
    return any((before[name] != after[name]).any() for name in before)


@pytest.mark.slow
def test_recipe_learns_the_rows_of_the_job(
    managed: ManagedAccount,
    job: Callable[..., Path],
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(managed.sagemaker, "train", train_here)
    managed.sagemaker.hub.add(HubContent("huggingface-reasoning-qwen3-1-7b", base))
    target = managed.recipes_target
    keys = {"resources__instance": "ml.p5.48xlarge", "data__limit": 24}
    path = job("Qwen/Qwen3-1.7B", "learned", train__num_train_epochs=1, **keys)
    submission, _ = submit_job(path, target)
    end = time.monotonic() + 200
    while not target.status(submission).is_over:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert target.status(submission).state == "not deployed"
    (model,) = target.fetch(submission, archive=False, checkpoints=False)
    assert differs(base, model)


@pytest.mark.slow
def test_records_are_really_learned(tmp_path: Path, base: Path) -> None:
    convert, _ = converter("converse")
    rows = [CompletionRow(str(n), f"Which number is {n}?", f"It is {n}.") for n in range(16)]
    records = "".join(json.dumps(convert(row)) + "\n" for row in rows)
    work = CustomizationWork(
        base, records, "converse", tmp_path / "home", epochs=1, learning_rate=1e-2
    )
    assert differs(base, train_here(work))
