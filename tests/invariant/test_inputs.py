"""A run resumes only with the data, template and base that its checkpoint was trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.factories import docstring_pairs, make_tiny_model, write_jsonl
from tests.run_commands import assert_identical, changed, train_here
from training.config.load import parse_job
from training.errors import CheckpointError
from training.input_digests import digests_of_other_models

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}"
    "{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def job(document: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    rows = docstring_pairs(24)
    write_jsonl(tmp_path / "rows.jsonl", rows[:20])
    write_jsonl(tmp_path / "held-out.jsonl", rows[20:])
    make_tiny_model(tmp_path / "base")
    (tmp_path / "template.jinja").write_text(TEMPLATE)
    return changed(
        document,
        model={
            "source": str(tmp_path / "base"),
            "chat_template": str(tmp_path / "template.jinja"),
        },
        data={
            "train": str(tmp_path / "rows.jsonl"),
            "validation": str(tmp_path / "held-out.jsonl"),
        },
        train={"max_steps": 6, "global_batch_size": 4, "micro_batch_size": 4},
        checkpoint={"every": "2 steps", "keep": 5},
    )


def fewer_rows(folder: Path) -> None:
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(lines[:9]))


def rows_in_another_order(folder: Path) -> None:
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(reversed(lines)))


def one_held_out_row_less(folder: Path) -> None:
    lines = (folder / "held-out.jsonl").read_text().splitlines(keepends=True)
    (folder / "held-out.jsonl").write_text("".join(lines[:-1]))


def another_base(folder: Path) -> None:
    path = folder / "base/model.safetensors"
    tensors = {name: tensor + 1e-3 for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def another_template(folder: Path) -> None:
    (folder / "template.jinja").write_text(TEMPLATE.replace("<{{", "<|{{"))


CHANGES: list[tuple[Callable[[Path], None], str]] = [
    (fewer_rows, "training rows"),
    (rows_in_another_order, "training rows"),
    (one_held_out_row_less, "held-out rows"),
    (another_base, "weights of the base"),
    (another_template, "chat template"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES, ids=[c.__name__ for c, _ in CHANGES])
def test_other_inputs_are_refused(
    job: dict[str, Any], tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    run = train_here(job, tmp_path / "run")
    for later in ("checkpoint-4", "checkpoint-6"):
        shutil.rmtree(run.path / "checkpoints" / later)
    change(tmp_path)
    with pytest.raises(CheckpointError, match=r"checkpoint-2 cannot be resumed") as caught:
        train_here(job, run.path)
    assert words in str(caught.value)
    assert "--fresh" in str(caught.value)


def test_the_same_inputs_elsewhere_resume(job: dict[str, Any], tmp_path: Path) -> None:
    uninterrupted = train_here(job, tmp_path / "whole")
    run = train_here(job, tmp_path / "run")
    for later in ("checkpoint-4", "checkpoint-6"):
        shutil.rmtree(run.path / "checkpoints" / later)
    # The same files, written again: times and inodes differ, contents do not.
    for path in [tmp_path / "rows.jsonl", *(tmp_path / "base").iterdir()]:
        path.write_bytes(path.read_bytes())
    assert_identical(train_here(job, run.path), uninterrupted)


def test_a_checkpoint_without_digests_is_accepted(job: dict[str, Any], tmp_path: Path) -> None:
    run = train_here(job, tmp_path / "run")
    for later in ("checkpoint-4", "checkpoint-6"):
        shutil.rmtree(run.path / "checkpoints" / later)
    path = run.path / "checkpoints/checkpoint-2/CHECKSUMS.json"
    document = json.loads(path.read_text())
    assert set(document["facts"].pop("inputs")) >= {"data", "model", "chat_template"}
    path.write_text(json.dumps(document))
    assert torch.isfinite(torch.tensor(train_here(job, run.path).losses)).all()


def test_another_teacher_is_refused(job: dict[str, Any], tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "teacher", seed=1)
    job = changed(job, method={"kind": "distill", "teacher": str(tmp_path / "teacher")})
    run = train_here(job, tmp_path / "run")
    for later in ("checkpoint-4", "checkpoint-6"):
        shutil.rmtree(run.path / "checkpoints" / later)
    path = tmp_path / "teacher/model.safetensors"
    tensors = {name: tensor + 1e-3 for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"checkpoint-2 cannot be resumed") as caught:
        train_here(job, run.path)
    assert "weights of method.teacher" in str(caught.value)


def test_every_other_model_of_a_job_has_a_digest(job: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "judge.jinja").write_text(TEMPLATE)
    judge = {
        "kind": "local",
        "source": str(tmp_path / "base"),
        "chat_template": str(tmp_path / "judge.jinja"),
    }
    rewards = [
        {"kind": "model", "source": str(tmp_path / "base")},
        {"kind": "judge", "judge": judge},
        {"kind": "judge", "judge": {**judge, "source": "no-such-organization/no-such-model"}},
    ]
    document = changed(job, method={"kind": "grpo", "reward": rewards, "num_generations": 4})
    digests = digests_of_other_models(parse_job(document, "job.yaml"))
    found = {key for key, digest in digests.items() if digest}
    assert found >= {
        "method.reward.0.source",
        "method.reward.1.judge.source",
        "method.reward.1.judge.chat_template",
    }
    # It is reported as missing when it is loaded, or it is not needed.
    assert digests["method.reward.2.judge.source"] is None
